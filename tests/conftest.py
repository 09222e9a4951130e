"""What a plain run leaves out of the zoo, and the longest tests first: no process waits for the last one."""

import sys

import pytest

LONG = ("test_random_networks_shrink_exactly", "test_killed_at_any_point", "test_a_compiled_model_learns_the_same")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    zoo = sys.modules.get("helpers.zoo")  # tests that do not import it name none of its entries, and may need no torch
    others = (zoo.FAMILIES.keys() | zoo.NETWORKS.keys()) - zoo.CORE if zoo else set()
    for item in items:
        named = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(value, str) and value in others for value in named):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not item.name.startswith(LONG))
