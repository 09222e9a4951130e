"""EigenDamage: Fisher information in a Kronecker-factored eigenbasis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats
from sparsify.statistics.kronecker_factors import KroneckerFactors

__all__ = ["Eigendamage"]


@dataclass(frozen=True)
class Eigendamage(Criterion):
    """½ θ² F_kk with the Fisher information F rebuilt from the Kronecker-factored eigenbasis of the layer.

    The paper turns the weights into the eigenbasis, prunes there, and leaves the rotations as layers of their own.
    Here the weights stay where they are and the second moments are turned back: nothing is added to the network, and
    correlations between weights count only as far as they change F. `weights=joint` makes more of them for channels:
    the scores of an output's weights then add up to ½ wᵀFw, the damage of taking all of them at once. Scores are
    right up to one factor for all layers. Channels get the sum over their weights, blocks the mean.

    Options:
        weights: alone scores a weight as the only one that goes; joint by its share ½ θ (F w) in the damage of taking
            all weights of its output, which can be negative.

    Reference: Wang et al., "EigenDamage: Structured Pruning in the Kronecker-Factored Eigenbasis", 2019.
    """

    needs: ClassVar[tuple[str, ...]] = ("kronecker-factors",)
    additive: ClassVar[bool] = True

    weights: Literal["alone", "joint"] = "alone"

    def weight(self, stats: WeightStats) -> Tensor:
        """Return ½ θ² F_kk, or ½ θ (F w) over the weights w of an output."""
        weight = stats.weight.detach()
        matrices = stats.layout.matrices(weight).float()
        inner, outer, scale = KroneckerFactors.parts(stats["kronecker-factors"], matrices.shape)
        along = outer.square() @ scale  # of each output, along the eigenvectors of the inputs
        if self.weights == "alone":
            scores = matrices.square() * (along @ inner.square().mT)
        else:
            scores = matrices * ((matrices @ inner * along) @ inner.mT)
        return stats.layout.restore(scores / 2, weight.shape)
