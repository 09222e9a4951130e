"""RNN Jacobian: what the memory of a recurrent layer hangs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, Scope, WeightStats

__all__ = ["RnnJacobian"]


@dataclass(frozen=True)
class RnnJacobian(Criterion):
    """|θ ∂χ/∂θ| with χ the mean squared singular value of the temporal Jacobian ∂h_{t+1}/∂h_t of a recurrent layer.

    For the weights of LSTM, GRU and plain recurrent layers; others have no score, so say with `only=` what is pruned.
    It asks for no labels. The paper takes ‖J 1‖ of the last steps and divides a score by the expected size of the
    gradient; here χ is exact, over all steps, and scores are compared as they are.

    Reference: Zhang and Stadie, "One-Shot Pruning of Recurrent Neural Networks by Jacobian Spectrum Evaluation", 2020.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("weights",)
    needs: ClassVar[tuple[str, ...]] = ("temporal-jacobian",)
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return |θ ∂χ/∂θ|."""
        return (stats["temporal-jacobian"] * stats.weight.detach()).abs()
