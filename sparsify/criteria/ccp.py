"""Collaborative channel pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["Ccp"]

_STEPS = 300


@dataclass(frozen=True)
class Ccp(Criterion):
    """Solution b of a quadratic program: which half of a group's channels should stay together; for channels.

    Without channels the loss changes by -uᵀ(1 - b) + (1 - b)ᵀS(1 - b), where b is 1 for a channel that stays and 0
    for one that goes; u = ∂L/∂α = gᵀw and S = ½ E[z zᵀ], both of gates on the channels. The sum over b is half the
    channels, b is relaxed to [0, 1]. The paper solves it for the number of channels that stays; a criterion does not
    know that number, so that half of them is asked for. Channels with equal b, most of them 0 or 1, are ordered by
    what the loss would gain or lose next. S is the Fisher information of batches in place of the Hessian of the
    weights, each batch one sample: pairs of channels have one only if they vary together over the batches.

    Reference: Peng et al., "Collaborative Channel Pruning for Deep Networks", 2019.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)
    needs: ClassVar[tuple[str, ...]] = ("gate-gradient", "gate-second-moment")

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return b, with the marginal loss as a small addend."""
        linear, pairs = stats["gate-gradient"].double(), stats["gate-second-moment"].double() / 2
        gone = _solve(linear, pairs, stats.size / 2)
        marginal = 2 * pairs @ gone - linear
        spread = (marginal.max() - marginal.min()).clamp_min(1e-300)
        return (1 - gone) + 1e-3 * (marginal - marginal.min()) / spread


def _solve(linear: Tensor, pairs: Tensor, budget: float) -> Tensor:
    """Minimise -uᵀx + xᵀSx over x in [0, 1] with a given sum, by projected gradients with momentum."""
    x = before = torch.full_like(linear, budget / len(linear))
    rate = 1 / max(2 * float(pairs.norm()), float(linear.abs().max()) * 1e-3, 1e-300)
    for step in range(_STEPS):
        ahead = x + step / (step + 3) * (x - before)
        before, x = x, _projected(ahead - rate * (2 * pairs @ ahead - linear), budget)
    return x


def _projected(x: Tensor, budget: float) -> Tensor:
    """Return the nearest point in [0, 1] with a given sum, by bisection for the shift."""
    low, high = x.min() - 1, x.max()
    for _ in range(60):
        middle = (low + high) / 2
        if float((x - middle).clamp(0, 1).sum()) > budget:
            low = middle
        else:
            high = middle
    return (x - high).clamp(0, 1)
