"""SNFS: layers and weights grow by their momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.mask_updates import Stats
from sparsify.mask_updates._periodic import Periodic
from sparsify.mask_updates._shares import shared_out
from sparsify.pruning.exchange import lowest_of

__all__ = ["Snfs"]


@dataclass
class Snfs(Periodic):
    """Sparse networks from scratch: what the layers drop grows in layers, and places, of the largest momentum.

    Every layer drops the same share of its smallest weights. A layer gets back in proportion to the mean magnitude of
    the momentum of its kept weights, and grows where the momentum of pruned ones is largest. Momentum is the
    exponential mean of dense gradients, with β = 0.9, which the rule keeps itself: the optimizer's slots of pruned
    weights are zero. The paper starts with α = 0.5 and updates once for every epoch.

    Reference: Dettmers and Zettlemoyer, "Sparse Networks from Scratch: Faster Training without Losing Performance",
    2019.
    """

    pace: ClassVar[str] = "1ep"

    alpha: float = 0.5
    until: float = 1.0
    beta: float = 0.9

    def observe(self, stats: Stats) -> None:
        """Smooth the dense gradients."""
        for name, gradient in stats.gradients.items():
            if name in self.state:
                self.state[name].mul_(self.beta).add_(gradient.detach(), alpha=1 - self.beta)
            else:
                self.state[name] = gradient.detach() * (1 - self.beta)

    def masks(self, stats: Stats) -> Mapping[str, Tensor]:
        """Drop by magnitude, grow by momentum."""
        share = self.share(stats)
        left, dropped, worth = {}, 0, {}
        for name, mask in stats.masks.items():
            gone = lowest_of(stats.weights[name].detach().abs(), mask, int(share * int(mask.sum())))
            left[name] = mask & ~gone
            dropped += int(gone.sum())
            kept = left[name]
            worth[name] = float(self.state[name].abs()[kept].double().mean()) if bool(kept.any()) else 0.0
        room = {name: int((~mask).sum()) for name, mask in left.items()}
        counts = shared_out(dropped, worth, room)
        return {name: mask | lowest_of(-self.grow(name, stats), ~mask, counts[name]) for name, mask in left.items()}

    def grow(self, name: str, stats: Stats) -> Tensor:
        """Return the magnitudes of the momentum."""
        return self.state[name].abs()
