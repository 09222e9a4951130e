"""APoZ: average percentage of zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["Apoz"]


@dataclass(frozen=True)
class Apoz(Criterion):
    """How often a channel speaks: one minus its share of zeros after the activation; for channels.

    The values are those that the next layers read, so it tells channels apart only behind activations that give
    exact zeros, such as ReLU. Values of one image and of all images count the same.

    Reference: Hu et al., "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep
    Architectures", 2016.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)
    needs: ClassVar[tuple[str, ...]] = ("zero-share",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return 1 - the share of zeros."""
        return 1 - stats["zero-share"]
