"""Ranking: exactly the lowest scores of many tensors, without joining or sorting them.

A score's bits, read as an integer, order like the score. Counting 16 bits at a time finds the value of the last score
that goes; another pass marks what is below it. Of equal scores the later ones go, so the same scores always give
the same result. The tensors are read in pieces that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Scored", "lowest"]

_BITS = 16
_BUCKETS = 1 << _BITS


@dataclass(frozen=True)
class Scored:
    """Scores of one tensor.

    Attributes:
        name: of the tensor.
        count: how many scores there are.
        pieces: gives the scores in order as flat floating tensors, the same ones whenever it is called; none is NaN.
    """

    name: str
    count: int
    pieces: Callable[[], Iterator[Tensor]]


def lowest(tensors: Sequence[Scored], count: int) -> list[Tensor]:
    """Mark the `count` lowest of all scores.

    Returns:
        For each tensor flat booleans `[count of its scores]`, False for those that are among the lowest.
    """
    total = sum(item.count for item in tensors)
    count = min(max(count, 0), total)
    if count in (0, total):
        return [torch.full((item.count,), count == 0, dtype=torch.bool) for item in tensors]
    dtype = _common(tensors)
    last, stay = _last(tensors, count, dtype)
    kept = []
    for item in tensors:
        marks = []
        for keys in _keys(item, dtype):
            mark = keys > last
            if stay and bool((equal := keys == last).any()):
                at = equal.nonzero().flatten()[:stay]
                mark[at] = True
                stay -= len(at)
            marks.append(mark.cpu())
        kept.append(torch.cat(marks) if marks else torch.empty(0, dtype=torch.bool))
    return kept


def _last(tensors: Sequence[Scored], count: int, dtype: torch.dtype) -> tuple[int, int]:
    """Return the highest key that goes, and how many of the scores with that key stay."""
    width = torch.finfo(dtype).bits
    low, below = -(1 << (width - 1)), 0  # the lowest key that may be it, and how many scores are below that
    for shift in range(width - _BITS, -1, -_BITS):
        found = torch.zeros(_BUCKETS, dtype=torch.int64)
        for item in tensors:
            for keys in _keys(item, dtype):
                found += _buckets(keys, low, shift, first=shift == width - _BITS)
        reached = below + found.cumsum(0)
        bucket = int(torch.searchsorted(reached, count))
        below = int(reached[bucket]) - int(found[bucket])
        low += bucket << shift
    return low, int(found[bucket]) - (count - below)


def _buckets(keys: Tensor, low: int, shift: int, *, first: bool) -> Tensor:
    """Count the keys in each of the buckets that begin at `low` and are 2^shift wide."""
    buckets = keys >> shift if shift else keys
    if first:
        buckets = buckets.int() - (low >> shift)
    else:
        buckets = buckets[(keys >> (shift + _BITS)) == (low >> (shift + _BITS))] - (low >> shift)
    return torch.bincount(buckets, minlength=_BUCKETS).cpu()


def _common(tensors: Sequence[Scored]) -> torch.dtype:
    """Return the type in which scores are compared: their own if they have one in common, else one that holds all."""
    firsts = (next(item.pieces(), None) for item in tensors)
    found = {piece.dtype for piece in firsts if piece is not None}
    if len(found) == 1:
        return found.pop()
    return torch.float64 if torch.float64 in found else torch.float32


def _keys(item: Scored, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield scores as integers that order like them; minus zero is zero."""
    integer = {16: torch.int16, 32: torch.int32, 64: torch.int64}[torch.finfo(dtype).bits]
    for piece in item.pieces():
        scores = piece.to(dtype).contiguous()
        bits = scores.view(integer)
        if len(bits) and int(bits.min()) < 0:
            bits = (scores + 0.0).view(integer)
            bits = torch.where(bits < 0, bits ^ torch.iinfo(integer).max, bits)
        yield bits
