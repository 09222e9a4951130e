"""DropNet: how strong the output of a channel is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["ExpectAbs"]


@dataclass(frozen=True)
class ExpectAbs(Criterion):
    """Expected absolute value E|a| of a channel's activation; for channels, and for blocks their mean.

    The values are those that the next layers read, behind norm and activation; for a block they are what it adds to
    its input. The paper prunes a share, trains from the original weights and repeats; that is left to the recipe.

    Reference: Tan and Motani, "DropNet: Reducing Neural Network Complexity via Iterative Pruning", 2020.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ("mean-absolute",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return E|a|."""
        return stats["mean-absolute"]
