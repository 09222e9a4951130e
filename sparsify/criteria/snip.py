"""SNIP: connection sensitivity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Snip"]


@dataclass(frozen=True)
class Snip(Criterion):
    """Connection sensitivity |g θ|: how much the loss changes when a weight is scaled.

    The gradient is the mean over the calibration batches. The product with θ is essential: |g| alone is worse than
    random. Scores are not normalised, which changes no ranking.

    Reference: Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", 2019.
    """

    needs: ClassVar[tuple[str, ...]] = ("gradient",)
    additive: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return |g θ|."""
        return (stats["gradient"] * stats.weight.detach()).abs()
