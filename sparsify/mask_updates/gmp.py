"""GMP: from dense to sparse along a cubic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.mask_updates import MaskUpdate, Stats
from sparsify.pruning.exchange import lowest_of
from sparsify.schedules import remaining

__all__ = ["Gmp"]


@dataclass
class Gmp(MaskUpdate):
    """Gradual magnitude pruning: dense at first; the smallest weights go until a layer's share is reached.

    The sparsity of a layer at step t is s (1 - (1 - t / T_end)³), every ΔT steps. What it saves of a dense training
    is little; it stands here for comparison.

    Attributes:
        every: steps between updates.
        until: which share of the run has updates.

    Reference: Zhu and Gupta, "To Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model Compression",
    2017.
    """

    dense: ClassVar[str] = "dense at first"
    constant: ClassVar[bool] = False
    pace: ClassVar[str] = "100it"

    every: int = 100
    until: float = 0.75

    def due(self, step: int, steps: int) -> bool:
        """Every ΔT steps, and once when the updates end."""
        last = int(self.until * steps)
        return step == last or (step < last and step % self.every == 0)

    def start(self, masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take the masks as the goal, and return dense ones."""
        self.state = {name: torch.tensor(int((~mask).sum())) for name, mask in masks.items()}
        return {name: torch.ones_like(mask) for name, mask in masks.items()}

    def masks(self, stats: Stats) -> Mapping[str, Tensor]:
        """Let the smallest go, up to now's share of the goal."""
        done = 1 - remaining("cubic", stats.step / max(1, int(self.until * stats.steps)))
        found = {}
        for name, mask in stats.masks.items():
            count = int(int(self.state[name]) * done + 0.5) - int((~mask).sum())
            found[name] = mask & ~lowest_of(stats.weights[name].detach().abs(), mask, max(0, count))
        return found
