"""Magnitude of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Magnitude"]


@dataclass(frozen=True)
class Magnitude(Criterion):
    """Absolute value |θ|; for a block the mean over its weights (L1 per weight).

    The mean makes blocks of different width comparable. A bias stays: early stages of a convolutional network have
    few inputs per filter and therefore larger weights, so late stages tend to be removed first.

    Reference: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015;
    Li et al., "Pruning Filters for Efficient ConvNets", 2017.
    """

    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return |θ|."""
        return stats.weight.detach().abs()
