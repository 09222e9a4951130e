"""What kernels make of a format's tensors for themselves, once, and remember as long as these are unchanged.

Every call of a sparse layer looks here, so the table is a plain one: a dictionary with weak keys would cost more than
all the rest of a small layer.

That a tensor was written is told by its version, which every operation of torch counts, and that another one was
assigned to its `.data` by its place and by the end of its storage: memory that is free again may be the next tensor's.
It is not counted where someone writes through `.data` in place, as some optimizers do; so gradients forget (`forget`)
what was made of the values that they are of, and after a backward everything is made again. Nothing tells of a write
through `.data` that no backward precedes: `weight.data.copy_(...)` in a loop of evaluation, or what
`torch.autograd.gradcheck` does; `with torch.no_grad(): weight.copy_(...)` is noticed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor

__all__ = ["forget", "remembered", "remembered_if_settled", "settled"]

T = TypeVar("T")
_State = tuple[int, int, torch.dtype]
_Seen = tuple[weakref.ref[Tensor], weakref.ref[torch.UntypedStorage], int, int, torch.dtype]

_KNOWN: dict[int, dict[Hashable, tuple[list[_Seen], object]]] = {}
_SEEN: dict[int, tuple[weakref.ref[Tensor], _State | None]] = {}
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
    known = _known(role, tensors)
    return cast(T, known[1]) if known is not None else _kept(role, tensors, make())


def remembered_if_settled(role: Hashable, tensors: Sequence[Tensor], make: Callable[[], T]) -> T | None:
    """Return what `remembered` does, but make nothing, and return nothing, while the first tensor is not settled."""
    known = _known(role, tensors)
    if known is not None:
        return cast(T, known[1])
    return _kept(role, tensors, make()) if settled(tensors[0]) else None


def _known(role: Hashable, tensors: Sequence[Tensor]) -> tuple[list[_Seen], object] | None:
    """Return what is remembered of unchanged tensors, as the second of two things."""
    roles = _KNOWN.get(id(tensors[0]))
    found = roles.get(role) if roles is not None else None
    return found if found is not None and _unchanged(found[0], tensors) else None


def _kept(role: Hashable, tensors: Sequence[Tensor], made: T) -> T:
    """Remember what was made of tensors, if they tell when they change, and return it."""
    if all(map(_telling, tensors)):
        first = id(tensors[0])
        watched = weakref.ref(tensors[0], lambda _: _KNOWN.pop(first, None))
        refs = [watched, *map(weakref.ref, tensors[1:])]
        states = [
            (ref, weakref.ref(tensor.untyped_storage()), *_state(tensor))
            for ref, tensor in zip(refs, tensors, strict=True)
        ]
        _KNOWN.setdefault(first, {})[role] = states, made
    return made


def _unchanged(states: list[_Seen], tensors: Sequence[Tensor]) -> bool:
    """Tell whether tensors are those that were seen, as they were."""
    if len(states) != len(tensors):
        return False
    for (ref, storage, version, place, dtype), tensor in zip(states, tensors, strict=True):  # this is in every call
        if ref() is not tensor or storage() is None or tensor._version != version:
            return False
        if tensor.data_ptr() != place or tensor.dtype is not dtype:
            return False
    return True


def settled(tensor: Tensor) -> bool:
    """Tell whether it pays to make something of a tensor: not of one that is trained.

    That is one that has changed since the last call, or has been forgotten; when first seen no tensor is. One that does
    not tell whether it has changed counts as if it had.
    """
    if not _telling(tensor):
        return False
    place, now = id(tensor), _state(tensor)
    known = _SEEN.get(place)
    if known is None or known[0]() is not tensor:
        _SEEN[place] = weakref.ref(tensor, lambda _: _SEEN.pop(place, None)), now
        return True
    _SEEN[place] = known[0], now
    return known[1] == now


def forget(tensor: Tensor) -> None:
    """Forget what was made of a tensor (and of others behind it)."""
    _KNOWN.pop(id(tensor), None)
    if id(tensor) in _SEEN:
        _SEEN[id(tensor)] = _SEEN[id(tensor)][0], None


def _telling(tensor: Tensor) -> bool:
    """Tell whether a tensor counts its changes."""
    return type(tensor) in _PLAIN and not tensor.is_inference()


def _state(value: Tensor) -> _State:
    """Return what tells that a tensor has changed; assigning to `.data` changes its place."""
    return value._version, value.data_ptr(), value.dtype
