"""KL: how far the answers move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import BlockStats, ChannelStats, Criterion, Scope

__all__ = ["Kl"]


@dataclass(frozen=True)
class Kl(Criterion):
    """KL divergence of the output probabilities, KL(softmax(y) ‖ softmax(y')), when the structure alone is closed.

    For channels and blocks; it asks for no labels. One forward over the calibration batches for each structure. The
    probabilities are taken along the last dimension of the first floating output, the mean over all others, so that a
    language model counts every position. The paper scores channels, those of the residual stream among them; blocks
    are scored likewise.

    Reference: Luo and Wu, "Neural Network Pruning with Residual-Connections and Limited-Data", 2020.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ("output-divergence",)
    additive: ClassVar[bool] = True

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the divergences."""
        return stats["output-divergence"]

    def block(self, stats: BlockStats) -> float:
        """Return the divergence."""
        return float(stats["output-divergence"])
