"""SRigL: RigL with as many weights for every output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.mask_updates import Stats
from sparsify.mask_updates._periodic import Periodic
from sparsify.pruning.exchange import lowest_of

__all__ = ["Srigl"]


@dataclass
class Srigl(Periodic):
    """RigL with a constant fan-in: every output of a layer keeps the same number of weights.

    The smallest weights of a layer go, wherever they are; each output then grows where its gradient is largest, until
    it has its number again. The paper also ablates outputs that have few salient weights; here all outputs stay
    (γ_sal = 0), so that the number of weights is constant. A layer starts with the largest constant fan-in that its
    mask allows, at least one.

    Reference: Lasby et al., "Dynamic Sparse Training with Structured Sparsity", 2024.
    """

    replaces_step: ClassVar[bool] = True

    def start(self, masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Even out the rows: those with too many weights lose their last ones, the others gain their first ones."""
        found = {}
        for name, mask in masks.items():
            rows = self._rows(name, mask)
            count = max(1, int(mask.sum()) // len(rows))
            found[name] = self._mask(name, _ranks(rows.float()) < count, mask.shape)
        return found

    def masks(self, stats: Stats) -> Mapping[str, Tensor]:
        """Drop within the layer, grow within each output."""
        share, found = self.share(stats), {}
        for name, mask in stats.masks.items():
            gone = lowest_of(stats.weights[name].detach().abs(), mask, int(share * int(mask.sum())))
            left = self._rows(name, mask & ~gone)
            lacking = self._rows(name, mask).sum(1) - left.sum(1)
            scores = self._rows(name, self.grow(name, stats)).masked_fill(left, -torch.inf)
            found[name] = self._mask(name, left | (_ranks(scores) < lacking[:, None]), mask.shape)
        return found

    def grow(self, name: str, stats: Stats) -> Tensor:
        """Return the magnitudes of the gradients."""
        return stats.gradients[name].detach().abs()

    def _rows(self, name: str, value: Tensor) -> Tensor:
        """Return a tensor as rows of the inputs of one output, `[outputs, inputs]`."""
        return self.layouts[name].matrices(value).flatten(0, 1)

    def _mask(self, name: str, rows: Tensor, shape: torch.Size) -> Tensor:
        matrices = rows.view(self.layouts[name].sizes(shape))
        return self.layouts[name].restore(matrices, shape).contiguous()


def _ranks(scores: Tensor) -> Tensor:
    """Return the place of every score in its row, the highest first; of equal ones the first comes first."""
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
