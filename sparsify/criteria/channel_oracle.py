"""Channel oracle: try it, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["ChannelOracle"]


@dataclass(frozen=True)
class ChannelOracle(Criterion):
    """How much the loss rises when the channel alone is closed; for channels.

    One forward over the calibration batches for each channel, so it is for small networks, or to judge other criteria
    by. A channel is set to zero wherever the next layers read it. A rise may be negative: the paper's other variant,
    which takes its absolute value, would keep channels that do harm. Without a task it is the relative change of the
    output on the example inputs.

    Reference: Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)
    needs: ClassVar[tuple[str, ...]] = ("channel-damage",)
    additive: ClassVar[bool] = True

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the damage."""
        return stats["channel-damage"]
