"""Norms of filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope
from sparsify.criteria._filters import filters
from sparsify.errors import UsageError

__all__ = ["FilterNorm"]


@dataclass(frozen=True)
class FilterNorm(Criterion):
    """Norm ‖F‖ₚ of the filter that makes a channel; for channels.

    Where several layers make the same channels, as query, key and value of a head do, the norms of each layer are
    divided by their mean over the channels and then averaged: a layer with large or many weights does not outvote the
    others. For a single layer the ranking is that of the paper. Biases, norms and readers do not count.

    Options:
        p: 1 for the sum of absolute values, 2 for the Euclidean norm.

    Reference: Li et al., "Pruning Filters for Efficient ConvNets", 2017.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)

    p: int = 1

    def __post_init__(self) -> None:
        if self.p not in (1, 2):
            raise UsageError(f"filter-norm: p={self.p} is neither 1 nor 2.")

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the mean over the layers of ‖F‖ₚ, relative to the layer's mean."""
        norms = [torch.linalg.vector_norm(rows, self.p, dim=1) for rows in filters(stats, "filter-norm")]
        return torch.stack([norm / norm.mean().clamp_min(1e-300) for norm in norms]).mean(0)
