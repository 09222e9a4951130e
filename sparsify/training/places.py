"""Places: which values of a tensor are kept, and the way between the tensor and the vector of these values."""

from __future__ import annotations

import functools
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
_LANES = (1, 2, 4, 8, 16, 32, 64)  # how many values a register may hold


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
    those are last there, too, behind zeros that fill up the register before them.

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
    """Return how many values torch's optimizers take at a time on this processor; on others the order has no effect."""
    return _measured_lanes(value.dtype) if value.is_cpu and value.is_floating_point() else 1


@functools.cache
def _measured_lanes(dtype: torch.dtype) -> int:
    """Return the smallest number of values that are rounded alike alone and among others.

    It is not that of the processor's widest registers: torch has its loops for some of them only.
    """
    values = torch.randn(3, 8 * _LANES[-1], generator=torch.Generator().manual_seed(0)).to(dtype)
    whole = _stepped(values, values.shape[1])
    return next((lanes for lanes in _LANES[:-1] if torch.equal(_stepped(values, lanes), whole)), _LANES[-1])


def _stepped(values: Tensor, size: int) -> Tensor:
    """Return parameters of some size after steps of the optimizers that there are, one behind the other.

    Args:
        values: at first, and gradients, `[3, N]`.
        size: how many values each parameter has.
    """
    found = []
    makers: tuple[Callable[..., torch.optim.Optimizer], ...] = (
        torch.optim.AdamW, functools.partial(torch.optim.SGD, momentum=0.9),
    )  # fmt: skip
    for make in makers:
        parameters = [torch.nn.Parameter(part.clone()) for part in values[0].split(size)]  # type: ignore[no-untyped-call]
        optimizer = make(parameters, lr=0.05, weight_decay=0.05, fused=True)
        for gradient in (*values[1:], *values[1:]):
            for parameter, part in zip(parameters, gradient.split(size), strict=True):
                parameter.grad = part.clone()
            optimizer.step()
        found += [parameter.detach() for parameter in parameters]
    return torch.cat(found)


def _filled_up(found: list[Tensor], at: int, lanes: int) -> tuple[list[Tensor], int]:
    """Add to the offsets what fills up the last register."""
    count = math.ceil(at / lanes) * lanes - at
    return ([*found, found[0].new_zeros(count)], at + count) if count else (found, at)
