"""Codebooks: a few numbers that stand for many, by k-means in one dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["codebook"]

_STEPS = 10_000  # they end when no value changes its cluster; that takes thousands only for hundreds of clusters


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
    different: Tensor = torch.unique_consecutive(ordered)
    if len(different) <= count:
        return different, torch.searchsorted(different, values.detach().double())
    centres, sizes = _lloyd(ordered.cpu().numpy(), count)  # small steps: threads would cost more than they do
    labels = torch.empty_like(order)
    labels[order] = torch.repeat_interleave(torch.from_numpy(sizes).to(order.device))
    return torch.from_numpy(centres).to(order.device), labels.view(values.shape)


def _lloyd(ordered: Any, count: int) -> tuple[Any, Any]:
    """Return the centres of sorted values, and how many values each has."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = np.linspace(ordered[0], ordered[-1], count)
    borders = _borders(ordered, centres)
    for _ in range(_STEPS):
        sizes = np.diff(borders)
        centres = np.where(sizes > 0, np.diff(sums[borders]) / np.maximum(sizes, 1), centres)
        before, borders = borders, _borders(ordered, centres)
        if np.array_equal(borders, before):
            break
    sizes = np.diff(borders)
    return centres[sizes > 0], sizes[sizes > 0]


def _borders(ordered: Any, centres: Any) -> Any:
    """Return where the runs of values that are nearest to each centre start and end."""
    inner = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
    return np.concatenate([[0], inner, [len(ordered)]])
