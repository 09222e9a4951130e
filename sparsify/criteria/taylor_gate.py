"""Taylor expansion of the loss in gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import BlockStats, ChannelStats, Criterion, Scope

__all__ = ["TaylorGate"]


@dataclass(frozen=True)
class TaylorGate(Criterion):
    """Squared first-order change of the loss (∂L/∂α)² of a gate α on a channel, mean over the batches.

    The gate stands where the channel is read, behind norm and activation; the paper puts it behind batch norm, which
    for ReLU is the same. A block gets the sum over the channels that it adds, so that signs do not cancel.

    Reference: Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ("gate-square",)
    additive: ClassVar[bool] = True

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return E[(∂L/∂α)²]."""
        return stats["gate-square"]

    def block(self, stats: BlockStats) -> float:
        """Return the sum over the channels."""
        return float(stats["gate-square"].double().sum())
