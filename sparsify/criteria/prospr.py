"""ProsPr: prospect pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Prospr"]


@dataclass(frozen=True)
class Prospr(Criterion):
    """|dL(θ_M)/dc| at c = 1 of factors c on the weights before training: |θ ⊙ dL(θ_M)/dθ|.

    θ_M are the weights after M = 3 steps of gradient descent with learning rate 0.1, a batch each, and the loss is
    that of the batches after them: a weight matters by what training makes of it. Without steps this is SNIP. The
    paper's steps have momentum, and their number and learning rate are tuned. Channels get the sum over their weights,
    blocks the mean.

    Reference: Alizadeh et al., "Prospect Pruning: Finding Trainable Weights at Initialization using Meta-Gradients",
    2022.
    """

    needs: ClassVar[tuple[str, ...]] = ("meta-gradient",)
    additive: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return |θ ⊙ dL(θ_M)/dθ|."""
        return (stats["meta-gradient"] * stats.weight.detach()).abs()
