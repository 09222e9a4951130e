"""Ranking: exactly the lowest scores of many tensors, without joining or sorting them.

A score's bits, read as an integer, order like the score. Two counts of 16 bits each find the value of the last score
that goes; a third pass marks what is below it. Of equal scores the later ones go, so the same scores always give
the same result. The tensors are passed three times in pieces that stay in the processor's cache.
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
    width = max(_width(item) for item in tensors)
    last, stay = _last(tensors, count, width)
    kept = []
    for item in tensors:
        marks = []
        for keys in _keys(item, width):
            mark = keys > last
            if stay and bool((equal := keys == last).any()):
                at = equal.nonzero().flatten()[:stay]
                mark[at] = True
                stay -= len(at)
            marks.append(mark.cpu())
        kept.append(torch.cat(marks) if marks else torch.empty(0, dtype=torch.bool))
    return kept


def _last(tensors: Sequence[Scored], count: int, width: int) -> tuple[int, int]:
    """Return the highest key that goes, and how many of the scores with that key stay."""
    low, below = -(1 << (width - 1)), 0  # the lowest key that may be it, and how many scores are below that
    for shift in range(width - _BITS, -1, -_BITS):
        found = torch.zeros(_BUCKETS, dtype=torch.int64)
        for item in tensors:
            for keys in _keys(item, width):
                buckets = (keys >> shift) - (low >> shift)
                if shift < width - _BITS:
                    buckets = buckets[(buckets >= 0) & (buckets < _BUCKETS)]
                found += torch.bincount(buckets, minlength=_BUCKETS).cpu()
        reached = below + found.cumsum(0)
        bucket = int(torch.searchsorted(reached, count))
        below = int(reached[bucket]) - int(found[bucket])
        low += bucket << shift
    return low, int(found[bucket]) - (count - below)


def _width(item: Scored) -> int:
    """Return how many bits a key needs: those of the scores, and at least 32."""
    first = next(item.pieces(), None)
    return 64 if first is not None and first.dtype == torch.float64 else 32


def _keys(item: Scored, width: int) -> Iterator[Tensor]:
    """Yield scores as integers of so many bits that order like them; minus zero is zero."""
    for piece in item.pieces():
        scores = piece.to(torch.float64 if width == 64 else torch.float32) + 0.0
        bits = scores.view(torch.int64 if width == 64 else torch.int32)
        yield torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits) if bool((bits < 0).any()) else bits
