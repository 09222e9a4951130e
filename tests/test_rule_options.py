"""What the source text says that rules take is what their classes take."""

import dataclasses
import importlib

import pytest

from sparsify.errors import UsageError
from sparsify.registry import entries
from sparsify.rule_options import RULE_OPTIONS, defaults, takers

RULES = entries("sparsify.mask_updates")


@pytest.mark.parametrize("name", RULES)
def test_defaults_are_those_of_the_class(name):
    cls = getattr(importlib.import_module(RULES[name].module), RULES[name].class_name)
    known = {field.name: field.default for field in dataclasses.fields(cls) if field.name in RULE_OPTIONS}
    found = defaults(name)
    assert found.keys() == known.keys()
    assert found.pop("every", "") == cls.pace
    assert found == {option: str(known[option]) for option in found}


def test_who_takes_what():
    assert takers("alpha") == ["dsr", "rigl", "set", "snfs", "srigl"]
    assert takers("every") == ["deepr", "dsr", "gmp", "rigl", "set", "snfs", "srigl"]
    assert takers("nothing") == []


def test_a_rule_that_is_not_there():
    with pytest.raises(UsageError, match="no rule of sparse training 'rigel'"):
        defaults("rigel")
