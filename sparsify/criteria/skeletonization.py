"""Skeletonization: relevance of a unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import BlockStats, ChannelStats, Criterion, Scope

__all__ = ["Skeletonization"]


@dataclass(frozen=True)
class Skeletonization(Criterion):
    """Relevance -∂L/∂α of a gate α on a channel, at α = 1: how much the loss rises as the gate closes.

    An exponential average over the batches, 0.8 · old + 0.2 · new. The paper uses the loss |t - o| for it, because
    squares vanish where the answer is right; here it is the task's own loss. A block gets the sum over the channels
    that it adds, the relevance of one gate on all of them.

    Reference: Mozer and Smolensky, "Skeletonization: A Technique for Trimming the Fat from a Network via Relevance
    Assessment", 1988.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ("gate-average",)
    additive: ClassVar[bool] = True

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return -∂L/∂α."""
        return -stats["gate-average"]

    def block(self, stats: BlockStats) -> float:
        """Return the sum over the channels."""
        return -float(stats["gate-average"].double().sum())
