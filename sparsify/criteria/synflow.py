"""SynFlow: synaptic flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Synflow"]


@dataclass(frozen=True)
class Synflow(Criterion):
    """|θ| ∂R/∂|θ| with R = 1ᵀ ∏|W| 1: a weight's share of the flow through the absolute values of all weights.

    It needs no data. Scores are float64, because products over many layers leave the range of float32. The scores of a
    layer that all paths pass add up to R, so that no such layer is ever emptied, as long as weights go in many rounds:
    one round at once does empty layers. A branch beside a shortcut has no such protection, since the flow may take
    the shortcut; at high sparsity whole branches of residual networks go. Batch norms use their running statistics.
    `sparsify.observation.absolute` says how the flow runs through other operators than the paper's, such as
    attention; experts that no token is sent to have no flow. Biases have none either, which the paper leaves out of
    the ranking.

    Reference: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", 2020.
    """

    needs: ClassVar[tuple[str, ...]] = ("absolute-gradient",)
    additive: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True
    rounds: ClassVar[int] = 100

    def weight(self, stats: WeightStats) -> Tensor:
        """Return |θ| ∂R/∂|θ|."""
        return stats["absolute-gradient"] * stats.weight.detach().double().abs()
