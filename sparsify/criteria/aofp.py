"""AOFP: approximated oracle filter pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["Aofp"]


@dataclass(frozen=True)
class Aofp(Criterion):
    """How early a binary search by damage to the next layer sets the channel aside as needed; for channels.

    Random halves of a layer are closed, the half of the channels with the highest mean damage to the next layers'
    outputs is set aside, and the search goes on in the rest. The paper prunes what is left once its damage is low, goes
    on training, and so finds the widths; here one search on the network as it is ranks all channels, and the pass says
    how many go. Damage is taken at all layers that read the channels. Ranks do not compare groups of different sizes:
    use `scope=uniform`.

    Reference: Ding et al., "Approximated Oracle Filter Pruning for Destructive CNN Width Optimization", 2019.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)
    needs: ClassVar[tuple[str, ...]] = ("filter-search",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the round from the end in which it was set aside, plus its damage."""
        return stats["filter-search"]
