"""Slot machines: every weight chooses among some random values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.strong import Draw, Scoring, through

__all__ = ["SlotMachines"]


@dataclass(frozen=True)
class SlotMachines(Scoring):
    """Draw K values for every weight, and take the one whose score is highest: Θ = Σ_k θ_k [k = argmax s].

    To the gradient the choice of a value is its score, so that the gradient of s_k is that of the weight times θ_k.
    Nothing is left out. The paper calls this greedy selection.

    Attributes:
        values: how many there are of each weight, K.

    Reference: Aladago and Torresani, "Slot Machines: Discovering Winning Combinations of Random Weights in Neural
    Networks", 2021.
    """

    init: Draw = "xavier"
    learning_rate: float = 1e-3
    values: int = 8

    @property
    def draws(self) -> int:
        """How many values each weight has to choose from."""
        return self.values

    def scores(self, weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
        """Return scores `[K, ...]` to start from: uniform from 0 to 1/√fan-in."""
        return torch.rand(weight.shape, generator=generator) / math.sqrt(fan_in)

    def weight(self, values: Tensor, scores: Tensor) -> Tensor:
        """Return the chosen values."""
        chosen = F.one_hot(scores.detach().argmax(0), self.values).movedim(-1, 0)
        return (values * through(chosen, scores)).sum(0)

    def result(self, values: Tensor, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the chosen values."""
        return values.gather(0, scores.argmax(0, keepdim=True)).squeeze(0), None
