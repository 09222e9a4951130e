"""DEEP R: weights keep their sign, and sleep when it would flip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.mask_updates import MaskUpdate, Stats
from sparsify.mask_updates._shares import shared_out
from sparsify.pruning.exchange import lowest_of

__all__ = ["Deepr"]


@dataclass
class Deepr(MaskUpdate):
    """Deep rewiring: L1 and noise push weights; one whose sign flips goes, and a random one comes with a random sign.

    Of all pruned weights, of every layer, each is as likely to come. The gradient of a kept weight gets the L1
    penalty times its sign, and noise that is √(2 T η) after a step of plain SGD with the rate η; other optimizers
    shape both as they do gradients.

    Attributes:
        every: steps between looks at the signs.
        penalty: of L1.
        temperature: T of the noise.

    Reference: Bellec et al., "Deep Rewiring: Training Very Sparse Deep Networks", 2018.
    """

    writes: ClassVar[bool] = True
    pace: ClassVar[str] = "1it"

    every: int = 1
    penalty: float = 1e-5
    temperature: float = 1e-8

    def due(self, step: int, steps: int) -> bool:
        """At every step."""
        return step % self.every == 0

    def observe(self, stats: Stats) -> None:
        """Remember the signs, and add penalty and noise to the gradients."""
        noise = math.sqrt(2 * self.temperature / max(1e-12, stats.learning_rate))
        for name, weight in stats.weights.items():
            if name not in self.state:
                self.state[name] = self._signs(weight.detach(), stats)
            random = torch.randn(weight.shape, generator=stats.generator).to(weight)
            stats.gradients[name].add_((self.penalty * self.state[name] + noise * random) * stats.masks[name])

    def masks(self, stats: Stats) -> Mapping[str, Tensor]:
        """Let those go whose sign has flipped, and as many come at random."""
        left = {
            name: mask & (stats.weights[name].detach() * self.state[name] >= 0) for name, mask in stats.masks.items()
        }
        gone = sum(int((mask & ~left[name]).sum()) for name, mask in stats.masks.items())
        room = {name: int((~mask).sum()) for name, mask in left.items()}
        counts = shared_out(gone, {name: float(count) for name, count in room.items()}, room)
        found = {}
        for name, mask in left.items():
            random = torch.rand(mask.shape, generator=stats.generator).to(mask.device)
            grown = lowest_of(random, ~mask, counts[name])
            found[name] = mask | grown
            signs = self._signs(torch.zeros_like(stats.weights[name].detach()), stats)
            self.state[name] = torch.where(grown, signs, self.state[name])
        return found

    def _signs(self, weight: Tensor, stats: Stats) -> Tensor:
        """Return the signs of weights, of zeros random ones."""
        random = torch.randint(0, 2, weight.shape, generator=stats.generator).to(weight) * 2 - 1
        return torch.where(weight == 0, random, weight.sign())
