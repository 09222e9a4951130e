"""FilterSketch: filters that carry the covariance of their layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope
from sparsify.criteria._filters import filters
from sparsify.errors import UsageError
from sparsify.observation.frequent_directions import frequent_directions

__all__ = ["FilterSketch"]


@dataclass(frozen=True)
class FilterSketch(Criterion):
    """Energy Σₖ (vₖᵀ F)² of a channel's filter in the directions v of a sketch of the layer's filters; for channels.

    The sketch holds a few rows B with BᵀB ≈ FᵀF, made by Frequent Directions in one run over the filters. The paper
    puts the sketch in the place of the weights and trains it; here the filters stay as they are, and those that lie in
    the directions that the sketch kept are kept. As in the paper the filters are taken to have zero mean. Where several
    layers make the same channels, the filter of a channel is its rows of all of them in a line.

    Options:
        share: the rows of the sketch, as a fraction of the channels, or of the weights of a filter if those are fewer.

    Reference: Lin et al., "Filter Sketch for Network Pruning", 2020.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"filter-sketch: share={self.share} is not a fraction above 0, and at most 1.")

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the energies."""
        rows = torch.cat(filters(stats, "filter-sketch"), 1)
        sketch = frequent_directions(rows, max(1, math.ceil(self.share * min(rows.shape))))
        _, found, directions = torch.linalg.svd(sketch, full_matrices=False)
        kept = directions[found > 1e-12 * found.max()]
        energies: Tensor = (rows @ kept.T).square().sum(1)
        return energies
