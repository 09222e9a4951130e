"""Loss preservation weighted by magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["GradientMagnitude"]


@dataclass(frozen=True)
class GradientMagnitude(Criterion):
    """|g| θ²: the first-order change of the loss |g θ|, times |θ|.

    Weights that are small and hardly change the loss go first: those whose loss changes least are also those that
    training moves least, so that both halves agree. The gradient is the mean over the calibration batches. Channels
    get the sum over their weights, blocks the mean.

    Reference: Lubana and Dick, "A Gradient Flow Framework For Analyzing Network Pruning", 2021.
    """

    needs: ClassVar[tuple[str, ...]] = ("gradient",)
    additive: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return |g| θ²."""
        return stats["gradient"].abs() * stats.weight.detach().square()
