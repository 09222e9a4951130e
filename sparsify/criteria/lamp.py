"""LAMP: magnitudes adapted to their layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import Criterion, Scope, WeightStats

__all__ = ["Lamp"]


@dataclass(frozen=True)
class Lamp(Criterion):
    """θ² over the sum of the θ'² of its tensor that are not smaller: Σ θ'² over |θ'| ≥ |θ|; for a global ranking.

    It ranks the weights of one tensor as |θ| does, and says how many of each tensor stay: the largest weight of every
    tensor scores one, the others at most a half, so that no tensor is emptied while another has two weights left.
    Among equal weights the later one counts as larger, so only zeros tie. For a block it is the mean over its
    weights, which falls with the size of the tensors.

    Reference: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("weights", "blocks")

    def weight(self, stats: WeightStats) -> Tensor:
        """Return the scores as float64, because the sums run over whole tensors."""
        squares, order = stats.weight.detach().double().square().reshape(-1).sort(stable=True)
        not_smaller = squares.flip(0).cumsum(0).flip(0)
        scores = torch.zeros_like(squares)
        scores[order] = torch.where(squares > 0, squares / not_smaller, 0.0)
        return scores.view(stats.weight.shape)
