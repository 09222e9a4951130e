"""Means and variances of data that comes in parts."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Moments"]


class Moments:
    """Mean and variance over one dimension, gathered part by part in float64.

    Reference: Chan et al., "Algorithms for Computing the Sample Variance: Analysis and Recommendations", 1983.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor, dim: int) -> None:
        """Add values; all parts have the same shape but for `dim`."""
        count = values.shape[dim]
        if count == 0:
            empty = values.sum(dim, dtype=torch.float64)
            self._mean, self._squares = self._mean + empty, self._squares + empty
            return
        variance, mean = torch.var_mean(values.detach().double(), dim, correction=0)
        total = self._count + count
        gap = mean - self._mean.to(mean.device)
        self._squares = self._squares.to(mean.device) + variance * count + gap.square() * (self._count * count / total)
        self._mean = mean - gap * (self._count / total)
        self._count = total

    @property
    def variance(self) -> Tensor:
        """The variance of all that was added (divided by the count); zeros if nothing was."""
        return self._squares / max(1, self._count)
