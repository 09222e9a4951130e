"""DSR: one threshold for all layers, which adapts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.mask_updates import Stats
from sparsify.mask_updates._periodic import Periodic
from sparsify.mask_updates._shares import shared_out
from sparsify.pruning.exchange import lowest_of

__all__ = ["Dsr"]

_START = 1e-3
_SLACK = 0.1  # of the number that should go


@dataclass
class Dsr(Periodic):
    """Dynamic sparse reparameterization: weights below one threshold for all layers go, as many grow at random.

    The threshold doubles when too few weights fell below it and halves when too many did, so that about the share α
    of all weights goes each time. A layer grows in proportion to the weights that it has left.

    Reference: Mostafa and Wang, "Parameter Efficient Training of Deep Convolutional Neural Networks by Dynamic Sparse
    Reparameterization", 2019.
    """

    pace: ClassVar[str] = "1ep"

    alpha: float = 0.1
    until: float = 1.0
    decay: bool = False

    def masks(self, stats: Stats) -> Mapping[str, Tensor]:
        """Drop what is below the threshold, adapt it, and grow at random."""
        threshold = self.state.setdefault("threshold", torch.tensor(_START, dtype=torch.float64))
        left = {
            name: mask & (stats.weights[name].detach().abs() >= float(threshold)) for name, mask in stats.masks.items()
        }
        kept = sum(int(mask.sum()) for mask in stats.masks.values())
        survivors = {name: float(mask.sum()) for name, mask in left.items()}
        dropped, wanted = kept - int(sum(survivors.values())), self.share(stats) * kept
        if dropped < (1 - _SLACK) * wanted:
            threshold.mul_(2)
        elif dropped > (1 + _SLACK) * wanted:
            threshold.div_(2)
        counts = shared_out(dropped, survivors, {name: int((~mask).sum()) for name, mask in left.items()})
        return {name: mask | lowest_of(-self.grow(name, stats), ~mask, counts[name]) for name, mask in left.items()}

    def grow(self, name: str, stats: Stats) -> Tensor:
        """Return random numbers."""
        weight = stats.weights[name]
        return torch.rand(weight.shape, generator=stats.generator).to(weight.device)
