"""Ways of scoring weights, one per file: scores are trained, and say what a layer computes with; weights are not.

A way makes the weight Θ of a layer of the values that were drawn and of scores, so that gradients reach the scores.
In the end it says what the layer keeps. `strong:method=...` does the rest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from sparsify.pruning.amounts import rounded

__all__ = ["Draw", "Masking", "Scoring", "best", "through"]

Draw: TypeAlias = Literal["given", "torch", "kaiming", "xavier", "sign", "shuffle"]


@dataclass(frozen=True)
class Scoring(ABC):
    """Base of all ways; the fields of one are options of the retraining method `strong`.

    Attributes:
        init: how weights are drawn before the training; given keeps those of the program.
        learning_rate: of the scores, its highest value; for Adam, and the size that scores have in this way.
    """

    init: Draw = "sign"
    learning_rate: float = 0.01

    @property
    def draws(self) -> int:
        """How many values each weight has to choose from."""
        return 1

    def begin(self, weight: Tensor) -> Tensor:
        """Return the weight to start from, of one that was drawn; weights of the program are not passed."""
        return weight

    def scores(self, weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
        """Return the scores to start from: uniform within 1/√fan-in, Kaiming's with a = √5."""
        return (2 * torch.rand(weight.shape, generator=generator) - 1) / math.sqrt(fan_in)

    @abstractmethod
    def weight(self, values: Tensor, scores: Tensor) -> Tensor:
        """Return Θ, with gradients of the scores.

        Args:
            values: the weight, or `[draws, ...]` of its shape.
            scores: as `scores` made them and the training changed them.
        """

    @abstractmethod
    def result(self, values: Tensor, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the weight of the end, and which of it is kept; None is all."""

    def renewed(self, weight: Tensor, scores: Tensor, fresh: Tensor, generator: torch.Generator) -> Tensor:
        """Return the weight to go on with, given another that was drawn; ways with an option `every` are asked."""
        return weight


@dataclass(frozen=True)
class Masking(Scoring):
    """Base of ways that keep some weights as they are, and leave out the others: Θ = m(s) ⊙ θ."""

    @abstractmethod
    def mask(self, scores: Tensor) -> Tensor:
        """Return which weights are kept."""

    def weight(self, values: Tensor, scores: Tensor) -> Tensor:
        """Return m(s) ⊙ θ; to the gradient m is s."""
        return values * through(self.mask(scores), scores)

    def result(self, values: Tensor, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return θ and m(s)."""
        return values, self.mask(scores)


def through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return the values of the first, exactly, with gradients of the second: the straight-through estimator.

    Reference: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
    """
    return hard.to(soft.dtype) + (soft - soft.detach())


def best(scores: Tensor, sparsity: float) -> Tensor:
    """Mark the highest scores, an exact number of them: 1 - sparsity of all."""
    flat = scores.detach().flatten()
    kept = flat.topk(rounded((1 - sparsity) * flat.numel()), sorted=False).indices
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(0, kept, True).view(scores.shape)
