from typing import get_args

import pytest
from cyclopts import Parameter

from sparsify import cli, options

SHARED = [name for name in options.__all__ if get_args(getattr(options, name))]


def test_all_are_used():
    assert set(SHARED) == {"AsJson", "Audit", "Compact", "Device", "Factory", "Inputs", "Model", "Task", "Trust"}
    assert all(getattr(cli, name) is getattr(options, name) for name in SHARED)


@pytest.mark.parametrize("name", SHARED)
def test_every_option_says_what_it_is_and_has_its_place_in_the_help(name):
    (parameter,) = [item for item in get_args(getattr(options, name)) if isinstance(item, Parameter)]
    assert parameter.help
    assert {group.name for group in parameter.group} <= {
        group.name for group in (options.INPUT, options.WORK, options.OUTPUT)
    }
