"""SET: weights grow at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.mask_updates import Stats
from sparsify.mask_updates._periodic import Periodic

__all__ = ["Set"]


@dataclass
class Set(Periodic):
    """Drop the 30% smallest weights of every layer, and grow as many at random places.

    The paper does so after every epoch, with the smallest positive and the largest negative weights, which is the
    smallest magnitudes of both signs. Weights that grow start at zero here, in the paper at random values.

    Reference: Mocanu et al., "Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity", 2018.
    """

    pace: ClassVar[str] = "1ep"

    decay: bool = False
    until: float = 1.0

    def grow(self, name: str, stats: Stats) -> Tensor:
        """Return random numbers."""
        weight = stats.weights[name]
        return torch.rand(weight.shape, generator=stats.generator).to(weight.device)
