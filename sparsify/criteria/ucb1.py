"""UCB1: a bandit tries channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["Ucb1"]


@dataclass(frozen=True)
class Ucb1(Criterion):
    """Mean rise of the loss when the channel is closed, estimated by a bandit with upper confidence bounds.

    For channels. Every channel is an arm; a pull closes it on one calibration batch and looks at the rise of the loss,
    or without a task at the change of the output. UCB1 spends a fixed budget of 4 pulls for each channel mostly on
    those that seem to do no harm, so that the lowest scores are the surest.

    Reference: Ameen and Vadera, "Pruning Neural Networks Using Multi-Armed Bandits", 2020.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)
    needs: ClassVar[tuple[str, ...]] = ("ucb1-damage",)
    additive: ClassVar[bool] = True

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the mean damage."""
        return stats["ucb1-damage"]
