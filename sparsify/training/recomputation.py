"""Recomputation: what the forward pass can make again is not kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from sparsify.graph import aten

__all__ = ["Recomputation"]


class Recomputation:
    """Knows how some tensors are made, and has autograd keep that in their place, also in the place of their views.

    What is computed from such a tensor is kept as ever, but for what autocast casts it to.
    """

    def __init__(self) -> None:
        self._makers: dict[StorageWeakRef, Callable[[], Tensor]] = {}
        self._active = False

    @contextmanager
    def active(self, device: str) -> Iterator[None]:
        """Do so in a forward pass on a device of this type."""
        with ExitStack() as stack:
            stack.enter_context(saved_tensors_hooks(self._packed, _unpacked))
            if torch.is_autocast_enabled(device):
                stack.enter_context(_Casts(self))
            self._active = True
            try:
                yield
            finally:
                self._active = False
                self._makers.clear()

    def note(self, made: Tensor, make: Callable[[], Tensor]) -> None:
        """Note how a tensor is made, whose memory is its own; until the backward pass that must make the same."""
        if self._active:
            self._makers[_reference(made)] = make

    def follow(self, value: Tensor, cast: Tensor, kwargs: Mapping[str, Any]) -> None:
        """Note how a cast is made of a tensor that can be made again."""
        if isinstance(packed := self._packed(value), _Recipe):
            self.note(cast, lambda: aten._to_copy.default(packed.made(), **kwargs))

    def _packed(self, value: Tensor) -> Tensor | _Recipe:
        make = self._makers.get(_reference(value))
        if make is None:
            return value
        return _Recipe(make, value.shape, value.stride(), int(value.storage_offset()))


@dataclass(frozen=True)
class _Recipe:
    """How a tensor is made: as a view of what `make` returns."""

    make: Callable[[], Tensor]
    shape: Sequence[int]
    stride: Sequence[int]
    offset: int

    def made(self) -> Tensor:
        """Make it."""
        with torch.no_grad():
            return self.make().as_strided(self.shape, self.stride, self.offset)


def _reference(value: Tensor) -> StorageWeakRef:
    """Return what knows a tensor's memory; as long as it lives, no other memory is taken for one that is gone."""
    return StorageWeakRef(value.untyped_storage())  # type: ignore[no-untyped-call]


def _unpacked(packed: Tensor | _Recipe) -> Tensor:
    return packed.made() if isinstance(packed, _Recipe) else packed


class _Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the casts of autocast, which are no nodes of the graph."""

    def __init__(self, recomputation: Recomputation) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recomputation = recomputation

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is aten._to_copy.default:
            self._recomputation.follow(args[0], made, kwargs or {})
        return made
