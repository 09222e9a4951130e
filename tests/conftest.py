"""What a plain run leaves out of the zoo, and the longest tests first: no process waits for the last one."""

import pytest

LONG = ("test_random_networks_shrink_exactly", "test_killed_at_any_point", "test_a_compiled_model_learns_the_same")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    from helpers.zoo import CORE, FAMILIES, NETWORKS

    others = (FAMILIES.keys() | NETWORKS.keys()) - CORE
    for item in items:
        named = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(value, str) and value in others for value in named):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not item.name.startswith(LONG))
