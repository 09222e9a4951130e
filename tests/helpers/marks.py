"""Parameters of which a plain run takes some, and the slow run the rest."""

from collections.abc import Iterable
from typing import Any

import pytest


def some(plain: Iterable[Any], every: Iterable[Any]) -> list[Any]:
    """Return all of `every` as parameters: those that are not in `plain` are slow."""
    chosen, values = list(plain), list(every)
    assert all(value in values for value in chosen), "what is chosen must be one of them"
    return [pytest.param(value, marks=() if value in chosen else pytest.mark.slow) for value in values]
