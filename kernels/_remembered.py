"""What kernels make of a format's tensors for themselves, once, and remember as long as these are unchanged.

Every call of a sparse layer looks here, so the table is a plain one: a dictionary with weak keys would cost more than
all the rest of a small layer.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar, cast

from torch import Tensor

__all__ = ["remembered"]

T = TypeVar("T")

_KNOWN: dict[tuple[int, Hashable], tuple[list[weakref.ref[Tensor]], list[int], object]] = {}


def remembered(role: Hashable, tensors: Sequence[Tensor], make: Callable[[], T]) -> T:
    """Return what `make` makes of tensors; while they live and are unchanged, what it made the last time.

    Args:
        role: what is made, and of which other arguments.
        tensors: what `make` looks at.
        make: called again when one of them is another tensor or has changed. Tensors made in inference mode do not
            tell whether they have.
    """
    key = id(tensors[0]), role
    known = _KNOWN.get(key)
    if known is not None and len(known[0]) == len(tensors):
        pairs = zip(known[0], known[1], tensors, strict=True)
        if all(ref() is value and version == value._version for ref, version, value in pairs):
            return cast(T, known[2])
    made = make()
    if not any(value.is_inference() for value in tensors):
        first = weakref.ref(tensors[0], lambda _: _KNOWN.pop(key, None))
        others = [weakref.ref(value) for value in tensors[1:]]
        _KNOWN[key] = [first, *others], [value._version for value in tensors], made
    return made
