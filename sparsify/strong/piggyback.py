"""Piggyback: masks that turn a trained network to another task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.strong import Draw, Masking

__all__ = ["Piggyback"]


@dataclass(frozen=True)
class Piggyback(Masking):
    """Keep weights whose scores are above a threshold: Θ = θ ⊙ [s > τ]; all are at first, for s = 0.01.

    Weights are those of the program, trained on another task. To the gradient the mask is s. How many are zero the
    scores say. A step of Adam moves scores by the learning rate, which is small beside s - τ here: a larger one drops
    the trained weights in the first step. The paper trains a new last layer beside the masks: `train=` names it.

    Attributes:
        threshold: of the scores, τ.

    Reference: Mallya et al., "Piggyback: Adapting a Single Network to Multiple Tasks by Learning to Mask Weights",
    2018.
    """

    init: Draw = "given"
    learning_rate: float = 1e-4
    threshold: float = 5e-3

    def scores(self, weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
        """Return 0.01 for all."""
        return torch.full(weight.shape, 1e-2)

    def mask(self, scores: Tensor) -> Tensor:
        """Mark what is above the threshold."""
        return scores > self.threshold
