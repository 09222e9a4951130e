"""Entropy of pooled activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope
from sparsify.errors import UsageError

__all__ = ["Entropy"]

_ROUNDING = 1e-5  # of the largest value; channels that vary less are constant


@dataclass(frozen=True)
class Entropy(Criterion):
    """Entropy -Σ p log p of a channel's mean activation over the examples, in equal bins; for channels.

    A channel whose mean hardly depends on the example says little about it. The bins divide the channel's own range;
    the examples are counted in a fine histogram while the data streams by, so a few may be in the bin beside theirs.

    Options:
        bins: how many there are, 2 to 256; with fewer examples than bins most channels score alike.

    Reference: Luo and Wu, "An Entropy-based Pruning Method for CNN Compression", 2017.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)
    needs: ClassVar[tuple[str, ...]] = ("pooled-histogram",)

    bins: int = 32

    def __post_init__(self) -> None:
        if not 2 <= self.bins <= 256:
            raise UsageError(f"entropy: bins={self.bins} is not between 2 and 256.")

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the entropies in nats."""
        counts, centres = stats["pooled-histogram"]
        low = centres.where(counts > 0, torch.inf).amin(1, keepdim=True)
        high = centres.where(counts > 0, -torch.inf).amax(1, keepdim=True)
        varies = high - low > _ROUNDING * low.abs().maximum(high.abs())
        width = ((high - low) / self.bins).where(varies, torch.inf)
        places = ((centres - low) / width).long().clamp(0, self.bins - 1)
        share = counts.new_zeros(len(counts), self.bins).scatter_add_(1, places, counts) / counts.sum(1, keepdim=True)
        entropies: Tensor = torch.special.entr(share).sum(1)
        return entropies
