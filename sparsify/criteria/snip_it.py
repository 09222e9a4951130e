"""SNIP-it: sensitivity of weights and nodes, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope, WeightStats

__all__ = ["SnipIt"]


@dataclass(frozen=True)
class SnipIt(Criterion):
    """Sensitivity |∂L/∂c| to a factor c on a weight (SNIP-it, |g θ|) or on a channel (SNAP-it), in 5 rounds.

    A channel is scored as such, by a gate where it is read, not by the sum over its weights. The paper prunes before
    or during training; when is the caller's choice.

    Reference: Verdenius et al., "Pruning via Iterative Ranking of Sensitivity Statistics", 2020.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("weights", "channels")
    needs: ClassVar[tuple[str, ...]] = ("sensitivity",)
    additive: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    rounds: ClassVar[int] = 5

    def weight(self, stats: WeightStats) -> Tensor:
        """Return |∂L/∂c| of each weight."""
        return stats["sensitivity"].abs()

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return |∂L/∂c| of each channel."""
        return stats["sensitivity"].abs()
