"""Taylor expansion of the loss to first order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Taylor"]


@dataclass(frozen=True)
class Taylor(Criterion):
    """Squared first-order change of the loss (g θ)², for a block the mean over its weights.

    The gradient is the mean over the calibration batches. The paper squares the sum over a filter; here single
    weights are squared and then averaged, which its authors give as the variant without correlations.

    Reference: Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019.
    """

    needs: ClassVar[tuple[str, ...]] = ("gradient",)
    additive: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return (g θ)²."""
        return (stats["gradient"] * stats.weight.detach()).square()
