"""Random scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.criteria import BlockStats, Criterion, WeightStats

__all__ = ["Random"]


@dataclass(frozen=True)
class Random(Criterion):
    """Random scores: the control that every criterion must beat.

    Uniform in [0, 1), reproducible from the run's seed and the name of what is scored.
    """

    def weight(self, stats: WeightStats) -> Tensor:
        """Draw a score for every weight."""
        return torch.rand(stats.weight.shape, generator=stats.generator)

    def block(self, stats: BlockStats) -> float:
        """Draw one score for the block; the mean over its weights would be 1/2 for every block."""
        return float(torch.rand((), generator=stats.generator))
