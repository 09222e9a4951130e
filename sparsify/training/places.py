"""Places: which values of a tensor are kept, and the way between the tensor and the vector of these values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

__all__ = ["Base", "Places", "gathered", "scattered"]

Base: TypeAlias = Callable[[], Tensor]
"""Computes the values of all places that are not kept; the kept ones are not looked at."""

_PIECE = 1 << 16  # values whose places 16 bits can say; 256 KiB, so that a core works in its cache
_VECTOR = {"AVX512": 64, "AVX2": 32, "SVE256": 32}  # bytes that torch's loops take at a time; else 16


class _Piece(NamedTuple):
    """The tensor's values from `start` to `stop` hold the vector's values from `first` to `last`."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Places:
    """Where the kept values of a tensor are, in the order of its memory: 2 bytes for each.

    The vector has as many dimensions as the tensor, `[n, 1, ...]`, so that what goes by dimensions, as weight decay
    does, treats both alike. Torch's optimizers compute the last values of a tensor, which do not fill a
    register of the processor, with other roundings than the rest. So that every value is computed alike in the vector,
    those are last there, too, behind zeros that fill up the register before them, less than 64 bytes.

    Attributes:
        shape: of the tensor.
        stride: of the tensor.
        offsets: of each value of the vector its place in its piece, `uint16[n]`.
        pieces: of the tensor's memory.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offsets: Tensor
    pieces: Sequence[_Piece]

    @classmethod
    def of(cls, mask: Tensor, like: Tensor) -> Places:
        """Return the places where a mask is True, for tensors that lie in memory as a copy of `like` does."""
        stride = torch.empty_like(like, device="meta").stride()
        bits, lanes = _flat(_arranged(mask, stride)), _lanes(like)
        body = len(bits) - len(bits) % lanes
        starts = [*range(0, body, _PIECE), *([body] if body < len(bits) else [])] or [0]
        found, pieces, at = list[Tensor](), list[_Piece](), 0
        for start, stop in zip(starts, [*starts[1:], len(bits)], strict=True):
            kept = bits[start:stop].nonzero().view(-1)
            if start == body:
                found, at = _filled_up(found, at, lanes)
            pieces.append(_Piece(start, stop, at, at + len(kept)))
            found.append(kept.to(torch.uint16))
            at += len(kept)
        if body == len(bits):
            found, at = _filled_up(found, at, lanes)
        empty = torch.empty(0, dtype=torch.uint16, device=mask.device)
        return cls(tuple(like.shape), stride, torch.cat([empty, *found]), tuple(pieces))

    @property
    def vector_shape(self) -> tuple[int, ...]:
        """The shape of the vector."""
        return (len(self.offsets), *([1] * (len(self.shape) - 1)))

    @property
    def count(self) -> int:
        """How many values are kept."""
        return sum(piece.last - piece.first for piece in self.pieces)

    @property
    def mask(self) -> Tensor:
        """The mask."""
        return self.scatter(torch.ones(self.vector_shape, dtype=torch.bool, device=self.offsets.device))

    def scatter(self, vector: Tensor, base: Base | None = None) -> Tensor:
        """Return the tensor with the values of a vector, and elsewhere zeros, or the values that `base` computes."""
        made = torch.empty_strided(self.shape, self.stride, dtype=vector.dtype, device=vector.device)
        if base is None:
            made.zero_()
        else:
            made.copy_(base())
        flat, values = _flat(made), vector.reshape(-1)
        for start, stop, first, last in self.pieces:
            flat[start:stop].scatter_(0, self.offsets[first:last].long(), values[first:last])
        return made

    def gather(self, dense: Tensor) -> Tensor:
        """Return the vector of the kept values of a tensor."""
        flat, vector = _flat(_arranged(dense, self.stride)), dense.new_zeros(self.vector_shape)
        values = vector.view(-1)
        for start, stop, first, last in self.pieces:
            torch.index_select(flat[start:stop], 0, self.offsets[first:last].long(), out=values[first:last])
        return vector


def scattered(vector: Tensor, places: Places, base: Base | None = None) -> Tensor:
    """As `places.scatter`; the gradient of the tensor lives only until its values for the vector are taken out."""
    made: Tensor = _Scattered.apply(vector, places, base)  # type: ignore[no-untyped-call]
    return made


def gathered(dense: Tensor, places: Places) -> Tensor:
    """As `places.gather`, with a gradient."""
    made: Tensor = _Gathered.apply(dense, places)  # type: ignore[no-untyped-call]
    return made


class _Scattered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vector: Tensor, places: Places, base: Base | None) -> Tensor:
        ctx.places = places
        return places.scatter(vector, base)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gathered(gradient, ctx.places), None, None


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, places: Places) -> Tensor:
        ctx.places = places
        return places.gather(dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return scattered(gradient, ctx.places), None


def _arranged(value: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Return a tensor with these strides: itself, if it has them."""
    if value.stride() == stride:
        return value
    return torch.empty_strided(value.shape, stride, dtype=value.dtype, device=value.device).copy_(value)


def _flat(value: Tensor) -> Tensor:
    """Return the memory of a tensor without gaps."""
    return value.as_strided((value.numel(),), (1,))


def _lanes(value: Tensor) -> int:
    """Return how many values torch's loops on this processor take at a time."""
    width = _VECTOR.get(torch.backends.cpu.get_cpu_capability(), 16)
    return max(1, width // value.element_size())


def _filled_up(found: list[Tensor], at: int, lanes: int) -> tuple[list[Tensor], int]:
    """Add to the offsets what fills up the last register."""
    count = math.ceil(at / lanes) * lanes - at
    return ([*found, found[0].new_zeros(count)], at + count) if count else (found, at)
