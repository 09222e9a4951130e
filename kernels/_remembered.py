"""What kernels make of a format's tensors for themselves, once, and remember as long as these are unchanged.

Every call of a sparse layer looks here, so the table is a plain one: a dictionary with weak keys would cost more than
all the rest of a small layer.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor

__all__ = ["remembered"]

T = TypeVar("T")
_State = tuple[int, int, torch.dtype]

_KNOWN: dict[tuple[int, Hashable], tuple[list[weakref.ref[Tensor]], list[_State], object]] = {}


def remembered(role: Hashable, tensors: Sequence[Tensor], make: Callable[[], T]) -> T:
    """Return what `make` makes of tensors; while they live and are unchanged, what it made the last time.

    Args:
        role: what is made, and of which other arguments.
        tensors: what `make` looks at.
        make: called again when one of them is another tensor or has changed. Tensors made in inference mode do not
            tell whether they have, and it is called every time. Nothing tells of a tensor that is written through
            `.data` in place.
    """
    key = id(tensors[0]), role
    known = _KNOWN.get(key)
    if known is not None and len(known[0]) == len(tensors):
        pairs = zip(known[0], known[1], tensors, strict=True)
        if all(ref() is value and state == _state(value) for ref, state, value in pairs):
            return cast(T, known[2])
    made = make()
    if not any(value.is_inference() for value in tensors):
        first = weakref.ref(tensors[0], lambda _: _KNOWN.pop(key, None))
        others = [weakref.ref(value) for value in tensors[1:]]
        _KNOWN[key] = [first, *others], [_state(value) for value in tensors], made
    return made


def _state(value: Tensor) -> _State:
    """Return what tells that a tensor has changed; assigning to `.data` changes its place."""
    return value._version, value.data_ptr(), value.dtype
