"""Optimal brain surgeon, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Obs"]

_DAMPING = 0.01  # of the mean of the diagonal


@dataclass(frozen=True)
class Obs(Criterion):
    """θ² / (2 [H⁻¹]_kk) with H = E[x xᵀ]: half the error of a layer without a weight, if the others make up for it.

    The paper's Hessian is that of the loss and of all weights at once; here it is that of half the squared error of
    each layer's output, as in SparseGPT, so that scores compare within a layer, and each layer is ranked by itself. H
    is damped by 1% of the mean of its diagonal. Weights whose input is always zero are worth nothing. Channels get
    the sum over their weights, blocks the mean. The other weights make up for nothing yet; that is left to a
    reconstruction.

    Reference: Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", 1993;
    Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", 2023.
    """

    needs: ClassVar[tuple[str, ...]] = ("input-gram",)
    per_layer: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return θ² / (2 [H⁻¹]_kk)."""
        weight = stats.weight.detach()
        inverse, alive = _inverse_diagonal(stats["input-gram"])
        scores = stats.layout.matrices(weight).double().square() / (2 * inverse[:, None]) * alive[:, None]
        return stats.layout.restore(scores, weight.shape)


def _inverse_diagonal(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return the diagonals `[G, K]` of the damped inverses, and which inputs are ever anything but zero."""
    damped = gram.double()
    diagonal = damped.diagonal(dim1=-2, dim2=-1)
    alive = diagonal > 0
    count = alive.sum(-1, keepdim=True).clamp_min(1)
    extra = torch.where(alive, diagonal.sum(-1, keepdim=True) / count * _DAMPING, 1.0)
    factor = torch.linalg.cholesky(damped + torch.diag_embed(extra))
    return torch.cholesky_inverse(factor).diagonal(dim1=-2, dim2=-1), alive
