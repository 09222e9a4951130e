"""Rules that exchange weights every so many steps, fewer and fewer of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.mask_updates import MaskUpdate, Stats
from sparsify.pruning.exchange import exchanged
from sparsify.schedules import remaining

__all__ = ["Periodic"]


@dataclass
class Periodic(MaskUpdate):
    """A rule that exchanges a share of every layer's weights: the smallest go, `grow` says what comes.

    Attributes:
        every: steps between updates, ΔT.
        alpha: which share of a layer's weights is exchanged at first.
        until: which share of the run has updates.
        decay: the share falls like a cosine, to nothing at the last update.
    """

    pace: ClassVar[str] = "100it"

    every: int = 100
    alpha: float = 0.3
    until: float = 0.75
    decay: bool = True

    def due(self, step: int, steps: int) -> bool:
        """Every ΔT steps, not at the first one, up to the end of the updates."""
        return step > 0 and step % self.every == 0 and step < self.until * steps

    def share(self, stats: Stats) -> float:
        """Return which share of a layer is exchanged now: α/2 (1 + cos(π t / T_end))."""
        end = max(1.0, self.until * stats.steps)
        return self.alpha * (remaining("cosine", stats.step / end) if self.decay else 1.0)

    def masks(self, stats: Stats) -> Mapping[str, Tensor]:
        """Exchange the same share of every layer."""
        share = self.share(stats)
        return {
            name: exchanged(mask, int(share * int(mask.sum())), stats.weights[name].detach().abs(), grow)
            for name, mask in stats.masks.items()
            for grow in (self.grow(name, stats),)
        }

    @abstractmethod
    def grow(self, name: str, stats: Stats) -> Tensor:
        """Score the weights of a layer that could come; the highest do."""
