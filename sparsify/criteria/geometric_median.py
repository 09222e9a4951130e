"""FPGM: filters near the geometric median."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope
from sparsify.criteria._filters import filters

__all__ = ["GeometricMedian"]

_PAIRS = 1 << 22  # of filters whose distances are held at once


@dataclass(frozen=True)
class GeometricMedian(Criterion):
    """Sum of the distances of a channel's filter to all others, Σⱼ ‖Fᵢ - Fⱼ‖₂; for channels.

    A filter near the geometric median of its layer is one that the others can stand in for, whatever its norm. Where
    several layers make the same channels, the filter of a channel is its rows of all of them in a line.

    Reference: He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration",
    2019.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the sums of distances."""
        rows = torch.cat(filters(stats, "geometric-median"), 1)
        parts = torch.split(rows, max(1, _PAIRS // len(rows)))
        return torch.cat([torch.cdist(part, rows).sum(1) for part in parts])
