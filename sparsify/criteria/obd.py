"""Optimal brain damage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Obd"]

_FLOOR = 1e-3  # of a tensor's mean curvature


@dataclass(frozen=True)
class Obd(Criterion):
    """½ H_kk θ²: how much the loss rises when a weight goes, with the diagonal of the Hessian alone.

    The paper assumes a minimum of the loss, where no curvature is negative; elsewhere, and where the estimate is off,
    one can be. Curvatures below a thousandth of the tensor's mean absolute curvature count as that, so that no weight
    looks better than useless, and magnitudes decide among those. Channels get the sum over their weights, blocks the
    mean.

    Reference: LeCun et al., "Optimal Brain Damage", 1990.
    """

    needs: ClassVar[tuple[str, ...]] = ("hessian-diagonal",)
    additive: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return ½ H_kk θ²."""
        curvature = stats["hessian-diagonal"]
        floor = curvature.abs().mean() * _FLOOR
        return torch.maximum(curvature, floor) * stats.weight.detach().square() / 2
