"""Inbound pruning: how much the response to an input varies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Inbound"]


@dataclass(frozen=True)
class Inbound(Criterion):
    """Variance over examples p of ‖W_ji * X_i^p‖_F, the response of output j to input i.

    An input to which an output always responds as strongly says little to it. Every weight of the kernel slice W_ji
    has the score of the slice, zeros have none, so that a masked weight stays the lowest. In a linear layer a slice
    is a single weight, and the norm runs over the tokens of an example. The paper removes slices layer by layer;
    responses of different layers do not compare. Channels get the sum over their weights, blocks the mean.

    Reference: Polyak and Wolf, "Channel-Level Acceleration of Deep Face Representations", 2015.
    """

    needs: ClassVar[tuple[str, ...]] = ("response-variance",)
    per_layer: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return the variances, zero where the weight is."""
        return stats["response-variance"].where(stats.weight.detach() != 0, 0.0)
