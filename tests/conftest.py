"""The longest tests come first, so that with several processes none waits for the last one."""

LONG = ("test_random_networks_shrink_exactly", "test_killed_at_any_point", "test_a_compiled_model_learns_the_same")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.name.startswith(LONG))
