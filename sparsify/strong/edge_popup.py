"""Edge-popup: the highest scores of every layer are its network."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sparsify.strong import Masking, best, through

__all__ = ["EdgePopup"]


@dataclass(frozen=True)
class EdgePopup(Masking):
    """Keep the weights of the highest |s| of every layer, an exact number: Θ = θ ⊙ top_k(|s|).

    Weights are ±√(2/fan-in). A layer of which the share k is left passes k of the variance: hence they are multiplied
    by √(1/k). To the gradient the mask is |s|.

    Attributes:
        sparsity: which fraction of every layer is zero, 1 - k.
        rescale: multiply weights that are drawn by √(1/k).

    Reference: Ramanujan et al., "What's Hidden in a Randomly Weighted Neural Network?", 2020.
    """

    sparsity: float = 0.5
    rescale: bool = True

    def begin(self, weight: Tensor) -> Tensor:
        """Return the weight times √(1/k)."""
        return weight / math.sqrt(1 - self.sparsity) if self.rescale else weight

    def mask(self, scores: Tensor) -> Tensor:
        """Mark the highest |s|."""
        return best(scores.abs(), self.sparsity)

    def weight(self, values: Tensor, scores: Tensor) -> Tensor:
        """Return θ ⊙ top_k(|s|)."""
        return values * through(self.mask(scores), scores.abs())
