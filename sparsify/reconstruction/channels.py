"""Which channels of a group its readers can best do without: a choice by their output, not by the channels' size.

A channel i adds Z_i = W_i x_i to the output of a layer that reads it. M_ij = E⟨Z_i, Z_j⟩, summed over the layers,
says what any set of channels adds: without the set T the output changes by Σ_{i,j∈T} M_ij.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.groups import Group
from sparsify.layout import Layout

__all__ = ["contributions", "greedy", "index_of", "lasso"]

_SWEEPS = 300
_STEPS = 40


def contributions(weight: Tensor, layout: Layout, gram: Tensor, index: Tensor, size: int) -> Tensor:
    """Return M of one layer, `[size, size]`, float64.

    Args:
        weight: of the layer.
        layout: how it reads it.
        gram: E[x xᵀ] of its inputs, `[G, K, K]`.
        index: for every weight the channel that it reads, or -1; the weight's shape.
        size: how many channels there are.
    """
    total = torch.zeros(size, size, dtype=torch.float64)
    for w, channel, moments in zip(layout.matrices(weight.detach()), layout.matrices(index), gram, strict=True):
        products = (w.float().T @ w.float()) * moments
        at = channel[0]
        known = at >= 0
        rows = torch.zeros(size, int(known.sum()), dtype=torch.float64).index_add_(
            0, at[known], products[known][:, known].double().cpu()
        )
        total.index_add_(1, at[known], rows)
    return total


def index_of(group: Group, name: str, dim: int, shape: torch.Size) -> Tensor | None:
    """Return for every weight the channel of a group that it reads along a dimension, or -1."""
    member = next(m for m in group.members if (m.parameter, m.dim) == (name, dim))
    if len(member.index) != 1:
        return None
    view = [1] * len(shape)
    view[dim] = -1
    return member.index[0].view(view).expand(shape)


def greedy(products: Tensor, count: int) -> Tensor:
    """Keep `count` channels: those are set aside one by one whose loss changes the output least, together.

    Returns:
        Booleans `[size]`, True where a channel stays.

    Reference: Luo et al., "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression", 2017.
    """
    size = len(products)
    kept = torch.ones(size, dtype=torch.bool)
    cost = products.diagonal().clone()
    for _ in range(size - count):
        worst = int(torch.where(kept, cost, torch.inf).argmin())
        kept[worst] = False
        cost += 2 * products[worst]
    return kept


def lasso(products: Tensor, count: int) -> Tensor:
    """Keep the `count` channels that a sparse combination Σ β_i Z_i of all needs to give the same output.

    The penalty λ of ½E‖Y - Σ β_i Z_i‖² + λ Σ|β_i| rises until no more than `count` of the β are left.

    Returns:
        Booleans `[size]`, True where a channel stays.

    Reference: He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017.
    """
    target = products.sum(1)
    low, high = 0.0, float(target.abs().max())
    best = torch.zeros(len(products), dtype=torch.float64)
    beta = torch.ones(len(products), dtype=torch.float64)
    for _ in range(_STEPS):
        penalty = (low + high) / 2
        beta = _descend(products, target, penalty, beta.clone())
        left = int((beta != 0).sum())
        if left > count:
            low = penalty
        else:
            high, best = penalty, beta
            if left == count:
                break
    # Where the last steps jump over the count, the largest of what was left just before fill it up.
    order = torch.argsort(best.abs() + 1e-9 * beta.abs(), descending=True, stable=True)
    kept = torch.zeros(len(products), dtype=torch.bool)
    kept[order[:count]] = True
    return kept


def _descend(products: Tensor, target: Tensor, penalty: float, beta: Tensor) -> Tensor:
    """Minimise by accelerated proximal gradient steps, starting at `beta`.

    Reference: Beck and Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm", 2009.
    """
    step = 1 / float(torch.linalg.matrix_norm(products, 2).clamp_min(1e-30))
    ahead, momentum = beta, 1.0
    for _ in range(_SWEEPS):
        moved = ahead + step * (target - products @ ahead)
        new = moved.sign() * (moved.abs() - step * penalty).clamp_min(0)
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / faster * (new - beta)
        done = float((new - beta).abs().max()) < 1e-7
        beta, momentum = new, faster
        if done:
            break
    return beta
