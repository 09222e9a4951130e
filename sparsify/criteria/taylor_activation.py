"""Taylor expansion of the loss in the activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["TaylorActivation"]


@dataclass(frozen=True)
class TaylorActivation(Criterion):
    """|Σ ∂L/∂Y · Y| of a channel's activations Y, mean over the batches, with L2 norm 1 in a group; for channels.

    The sum runs over positions and examples of a batch; it is the gradient of a gate on the channel. The paper takes
    the absolute value for every example, which is the same with batches of one. Its normalisation by layer is one by
    group here, and makes groups comparable as they are.

    Reference: Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)
    needs: ClassVar[tuple[str, ...]] = ("gate-magnitude",)
    additive: ClassVar[bool] = True

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return |∂L/∂α| divided by its L2 norm."""
        return F.normalize(stats["gate-magnitude"].double(), dim=0, eps=1e-300)
