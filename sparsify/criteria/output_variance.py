"""Reduce and reuse: how much the output of a channel varies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["OutputVariance"]


@dataclass(frozen=True)
class OutputVariance(Criterion):
    """Variance of a channel's values over examples and positions; for channels, and for blocks their mean.

    A channel that hardly varies can be replaced by a constant. The values are those that the next layers read, behind
    norm and activation. This is the choice of channels alone ("reduce"); the paper then rebuilds the removed channels
    from the others by least squares ("reuse").

    Reference: Polyak and Wolf, "Channel-Level Acceleration of Deep Face Representations", 2015.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ("activation-variance",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the variances."""
        return stats["activation-variance"]
