"""EigenDamage: Fisher information in a Kronecker-factored eigenbasis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats
from sparsify.statistics.kronecker_factors import KroneckerFactors

__all__ = ["Eigendamage"]


@dataclass(frozen=True)
class Eigendamage(Criterion):
    """½ θ² F_kk with the Fisher information F rebuilt from the Kronecker-factored eigenbasis of the layer.

    The paper turns the weights into the eigenbasis, prunes there, and leaves the rotations as layers of their own.
    Here the weights stay where they are and the second moments are turned back, so that nothing is added to the
    network: correlations between weights count only as far as they change the diagonal. Scores are right up to one
    factor for all layers. Channels get the sum over their weights, blocks the mean.

    Reference: Wang et al., "EigenDamage: Structured Pruning in the Kronecker-Factored Eigenbasis", 2019.
    """

    needs: ClassVar[tuple[str, ...]] = ("kronecker-factors",)
    additive: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return ½ θ² F_kk."""
        weight = stats.weight.detach()
        matrices = stats.layout.matrices(weight).float()
        inner, outer, scale = KroneckerFactors.parts(stats["kronecker-factors"], matrices.shape)
        diagonal = outer.square() @ scale @ inner.square().mT
        return stats.layout.restore(matrices.square() * diagonal / 2, weight.shape)
