"""HRank: ranks of feature maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["Hrank"]


@dataclass(frozen=True)
class Hrank(Criterion):
    """Mean rank of a channel's feature map as a matrix; for channels, and for blocks their mean.

    A map of low rank carries little information. The maps are those that the next layers read, behind norm and
    activation. It is for channels with a map of two dimensions, as of images; the columns and tokens of an attention
    head are one, too. It is refused for others. Ranks are bounded by the size of the map, so blocks of stages with
    different resolution do not compare.

    Reference: Lin et al., "HRank: Filter Pruning using High-Rank Feature Map", 2020.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ("map-rank",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the mean ranks."""
        return stats["map-rank"]
