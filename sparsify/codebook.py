"""Codebooks: a few numbers that stand for many, by k-means in one dimension."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["codebook"]

_STEPS = 10_000  # they end when no value changes its centre, mostly after some hundreds


def codebook(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find numbers that stand for values: each value for its nearest, each number the mean of its values.

    Lloyd's iterations from numbers at equal distances between the smallest and the largest value. Values are sorted
    once; then a cluster is a run of them, and a step looks up no more than the borders and the prefix sums there. Not
    more different values than numbers stand for themselves.

    Args:
        values: finite ones, of any shape.
        count: how many numbers there may be.

    Returns:
        The numbers that stand for some value, rising, float64 `[k]`, and for each value the place of its number,
        int64 of the values' shape.

    Reference: Lloyd, "Least Squares Quantization in PCM", 1982; Han et al., "Deep Compression", 2016 (the start).
    """
    ordered, order = values.detach().double().flatten().sort()
    different = ordered.unique_consecutive()
    if len(different) <= count:
        return different, torch.searchsorted(different, values.detach().double())
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    centres = ordered[0] + (ordered[-1] - ordered[0]) * torch.linspace(0, 1, count).to(ordered)
    sizes, borders = _runs(ordered, centres)
    for _ in range(_STEPS):
        centres = torch.where(sizes > 0, sums[borders].diff() / sizes.clamp_min(1), centres)
        before = borders
        sizes, borders = _runs(ordered, centres)
        if torch.equal(borders, before):
            break
    used = sizes > 0
    labels = torch.empty_like(order)
    labels[order] = torch.repeat_interleave(sizes[used])
    return centres[used], labels.view(values.shape)


def _runs(ordered: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many values are nearest to each centre, and where their runs start and end."""
    inner = torch.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
    borders = torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(ordered))])
    return borders.diff(), borders
