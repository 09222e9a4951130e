"""Signed supermask: scores keep a weight, leave it out or turn it round."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.strong import Scoring, through

__all__ = ["Signed"]


@dataclass(frozen=True)
class Signed(Scoring):
    """Keep weights with scores above a threshold, turn round those below minus it: Θ = θ ⊙ t with t in {-1, 0, 1}.

    Weights are ±√(2/fan-in), so that a layer has the values {-c, 0, c}. To the gradient t is s. How many are zero the
    scores say. The paper's networks have ELUs, for which it draws weights of another size.

    Attributes:
        threshold: of the scores, τ.

    Reference: Koster et al., "Signing the Supermask: Keep, Hide, Invert", 2022.
    """

    threshold: float = 0.01

    def weight(self, values: Tensor, scores: Tensor) -> Tensor:
        """Return θ ⊙ t."""
        return values * through(self._signs(scores), scores)

    def result(self, values: Tensor, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return θ with the signs of the end, and where t is not zero."""
        return torch.where(scores < 0, -values, values), self._signs(scores) != 0

    def _signs(self, scores: Tensor) -> Tensor:
        return (scores > self.threshold).to(scores.dtype) - (scores < -self.threshold).to(scores.dtype)
