"""Wanda: weights and activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Wanda"]


@dataclass(frozen=True)
class Wanda(Criterion):
    """|θ| times the L2 norm of the input that the weight multiplies.

    The paper compares the weights of one output with each other; here each layer is ranked by itself, and a pattern
    stays within an output. For convolutions an input is a channel at a position of the kernel. Channels get the sum of
    their weights, blocks the mean.

    Reference: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2023.
    """

    needs: ClassVar[tuple[str, ...]] = ("input-norm",)
    per_layer: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return |θ|·‖x‖₂."""
        return stats.weight.detach().abs() * stats["input-norm"]
