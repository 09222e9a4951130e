"""What kernels make of a format's tensors for themselves, once, and remember as long as these are unchanged.

Every call of a sparse layer looks here, so the table is a plain one: a dictionary with weak keys would cost more than
all the rest of a small layer.

That a tensor was written is told by its version, which every operation of torch counts. It is not counted where someone
writes through `.data` in place, as some optimizers do; so gradients forget (`forget`) what was made of the values that
they are of, and after a backward everything is made again. Nothing tells of a write through `.data` that no backward
precedes: `weight.data.copy_(...)` in a loop of evaluation; `with torch.no_grad(): weight.copy_(...)` is noticed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor

__all__ = ["forget", "remembered"]

T = TypeVar("T")
_State = tuple[int, int, torch.dtype]

_KNOWN: dict[int, dict[Hashable, tuple[list[weakref.ref[Tensor]], list[_State], object]]] = {}
_PLAIN = (Tensor, torch.nn.Parameter, torch.nn.Buffer)


def remembered(role: Hashable, tensors: Sequence[Tensor], make: Callable[[], T]) -> T:
    """Return what `make` makes of tensors; while they live and are unchanged, what it made the last time.

    Args:
        role: what is made, and of which other arguments.
        tensors: what `make` looks at.
        make: called again when one of them is another tensor or has changed. Tensors made in inference mode do not
            tell whether they have, and those of other classes (such as fake ones) may not be what they seem: for these
            it is called every time.
    """
    first = id(tensors[0])
    known = _KNOWN[first].get(role) if first in _KNOWN else None
    if known is not None and len(known[0]) == len(tensors):
        pairs = zip(known[0], known[1], tensors, strict=True)
        if all(ref() is value and state == _state(value) for ref, state, value in pairs):
            return cast(T, known[2])
    made = make()
    if all(type(value) in _PLAIN and not value.is_inference() for value in tensors):
        watched = weakref.ref(tensors[0], lambda _: _KNOWN.pop(first, None))
        others = [weakref.ref(value) for value in tensors[1:]]
        _KNOWN.setdefault(first, {})[role] = [watched, *others], [_state(value) for value in tensors], made
    return made


def forget(tensor: Tensor) -> None:
    """Forget what was made of a tensor (and of others behind it)."""
    _KNOWN.pop(id(tensor), None)


def _state(value: Tensor) -> _State:
    """Return what tells that a tensor has changed; assigning to `.data` changes its place."""
    return value._version, value.data_ptr(), value.dtype
