"""Least squares: the weights that are left, fitted to what the whole layer gave.

For every output row w of a layer, with its own set of weights that are left, the fit minimises
E‖w x - w₀ z‖² + δ‖w - w₀‖² over the inputs x that the layer gets now and z that it got before pruning, w₀ being the row
before pruning. The damping δ is a share of the mean square of the inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.reconstruction.moments import Moments

__all__ = ["fitted"]

_STEPS = 200
_CLOSE = 1e-5  # of the right-hand side
_DIRECT = 4096  # up to so many inputs a shared set of weights is solved for at once


def fitted(before: Tensor, kept: Tensor, moments: Moments, damping: float) -> Tensor:
    """Fit the weights that are left.

    Args:
        before: the weights w₀, `[G, O, K]`.
        kept: which weights are left, booleans `[G, O, K]`.
        moments: of the inputs.
        damping: δ as a share of the mean diagonal of the Gram matrix.

    Returns:
        The new weights, zero where none is left; float32 `[G, O, K]`. A row whose fit is no better than its old
        weights (the rounding of an ill-conditioned system) keeps them.

    Reference: Luo et al., "ThiNet", 2017 and He et al., "Channel Pruning for Accelerating Very Deep Neural Networks",
    2017 (refitting what is left, for whole channels).
    """
    found = []
    for w0, mask, gram, cross in zip(before.float(), kept, moments.gram, moments.cross, strict=True):
        delta = damping * gram.diagonal().mean().clamp_min(1e-12)
        system = gram + delta * torch.eye(len(gram), device=gram.device)
        target = w0 @ cross + delta * w0
        start = torch.where(mask, w0, 0.0)
        rows, left = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        if len(left) <= _DIRECT and bool(mask[rows][:, left].all()):  # every row that is left has the same weights
            solved = torch.zeros_like(w0)
            solved[rows[:, None], left] = _direct(system[left][:, left], target[rows][:, left])
        else:
            solved = _conjugate_gradients(system, target, mask, start)
        found.append(torch.where(_better(solved, start, system, target)[:, None], solved, start))
    return torch.stack(found)


def _better(solved: Tensor, start: Tensor, system: Tensor, target: Tensor) -> Tensor:
    """Tell for each row whether w A w - 2 t w is smaller, from the difference alone, which does not cancel."""
    change = (solved - start).double()
    slope = (solved + start).double() @ system.double() - 2 * target.double()
    return (change * slope).sum(1) < 0


def _direct(system: Tensor, target: Tensor) -> Tensor:
    if not len(system):
        return target
    solved: Tensor = torch.linalg.solve(system.double(), target.double().T)
    return solved.T.float()


def _conjugate_gradients(system: Tensor, target: Tensor, mask: Tensor, start: Tensor) -> Tensor:
    """Solve w A = t on the kept places of every row at once; each step is one product of all rows with A.

    Reference: Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952.
    """
    inverse = 1 / system.diagonal()
    w = start.clone()
    residual = torch.where(mask, target - w @ system, 0.0)
    goal = (_CLOSE * torch.where(mask, target, 0.0).norm(dim=1)).square()
    direction = scaled = residual * inverse
    product = (residual * scaled).sum(1)
    for _ in range(min(_STEPS, 2 * mask.shape[1])):
        image = torch.where(mask, direction @ system, 0.0)
        curvature = (direction * image).sum(1)
        going = (residual.square().sum(1) > goal) & (curvature > 0)  # rounding may leave a direction without any
        if not bool(going.any()):
            break
        step = torch.where(going, product / curvature, 0.0)
        w += step[:, None] * direction
        residual = residual - step[:, None] * image
        scaled = residual * inverse
        before, product = product, (residual * scaled).sum(1)
        direction = scaled + (product / before.clamp_min(1e-30))[:, None] * direction
    return w
