"""Optimal brain surgeon in blocks: each pruned weight is made up for by the weights behind it in its row.

For one layer with the Hessian H = E[x xᵀ] of its squared error, removing w_q changes the best values of the others by
-w_q / [H⁻¹]_qq · [H⁻¹]_:q. Going through the columns in order, with the Cholesky factor of H⁻¹, all rows share one
factorisation, and the updates of a block of columns reach the columns behind it in one product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.errors import PassError

__all__ = ["surgeon"]

_TRIES = 6


def surgeon(weight: Tensor, kept: Tensor, gram: Tensor, damping: float, block: int = 128) -> Tensor:
    """Prune weights and update the ones behind them.

    Args:
        weight: `[O, K]`.
        kept: which weights stay, booleans `[O, K]`.
        gram: E[x xᵀ] of the inputs, `[K, K]`.
        damping: added to the diagonal as a share of its mean; ten times as much where the factorisation fails.
        block: columns that are done together. Memory beside the weight is 3 K² values, whatever O is.

    Returns:
        The new weights, zero where none stays; float32 `[O, K]`.

    Raises:
        PassError: the Gram matrix cannot be factorised.

    Reference: Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", 1993; Frantar
    and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", 2023.
    """
    w = weight.float().clone()
    dead = gram.diagonal() == 0  # inputs that never change: no other weight can make up for theirs
    factor = _factor(gram, dead, damping)
    for start in range(0, w.shape[1], block):
        end = min(start + block, w.shape[1])
        errors = torch.zeros(len(w), end - start, device=w.device)
        for column in range(start, end):
            lost = torch.where(kept[:, column], 0.0, w[:, column]) / factor[column, column]
            w[:, column:end] -= lost[:, None] * factor[column, column:end]
            errors[:, column - start] = lost
        w[:, end:] -= errors @ factor[start:end, end:]
    return torch.where(kept, w, 0.0)


def _factor(gram: Tensor, dead: Tensor, damping: float) -> Tensor:
    """Return the upper Cholesky factor U of H⁻¹ = Uᵀ U."""
    mean = gram.diagonal().mean().clamp_min(1e-12)
    hessian = gram.float().clone()
    hessian.diagonal().add_(torch.where(dead, mean, 0.0))
    for attempt in range(_TRIES):
        damped = hessian.clone()
        damped.diagonal().add_(damping * 10**attempt * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if int(failed):
            continue
        upper: Tensor
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not int(failed):
            return upper
    raise PassError("The inputs of a layer depend on each other: its Hessian cannot be inverted. Raise damping=.")
