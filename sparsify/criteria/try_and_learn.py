"""Try and learn: a policy learns what to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["TryAndLearn"]


@dataclass(frozen=True)
class TryAndLearn(Criterion):
    """The logit with which a policy, trained by REINFORCE on ψ log(N / k), keeps the channel; for channels.

    ψ is high while the loss stays low, log(N / k) while few of the N channels are kept. The paper's policy is a
    network that reads the filters of a layer, learns until it converges, and decides how many filters stay. Here it has
    one probability for each channel and 64 updates with 8 selections each, one group at a time, others whole; the pass
    decides how many go. Selections close many channels together, so that a pair of duplicates is told from two
    channels that nobody needs.

    Reference: Huang et al., "Learning to Prune Filters in Convolutional Neural Networks", 2018.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)
    needs: ClassVar[tuple[str, ...]] = ("keep-logit",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the logits."""
        return stats["keep-logit"]
