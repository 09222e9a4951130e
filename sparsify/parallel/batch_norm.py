"""Batch norm over the shares of all ranks, as one process computes it over the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, fx

from sparsify.graph import aten
from sparsify.parallel.ranks import together

__all__ = ["SyncedNorms"]


class SyncedNorms:
    """Replaces batch norms in the training form of a graph.

    Torch's own SyncBatchNorm is a module and computes on GPUs alone; a graph has operators.

    Attributes:
        weight: 0 where this rank has an example only to take part, which counts for nothing; else 1.
    """

    def __init__(self) -> None:
        self.weight = 1.0

    def rewrite(self, graph: fx.Graph) -> None:
        """Let the batch norms that normalise by the batch look at those of all ranks."""
        for node in graph.nodes:
            if node.target is aten.batch_norm.default and node.args[5]:
                node.target = self._normalised

    def _normalised(self, *args: Any) -> Tensor:
        """As `aten.batch_norm`, over the channels of dimension 1."""
        value, weight, bias, mean, variance, _, momentum, eps = args[:8]
        dims = [dim for dim in range(value.dim()) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(value.dim())]
        wide = value if value.dtype in (torch.float32, torch.float64) else value.float()
        count = wide.new_full((1,), self.weight * value.numel() / value.shape[1])
        sums = _summed(torch.cat([self.weight * wide.sum(dims), count]))
        total = sums[-1:].detach()
        center = sums[:-1] / total
        centered = wide - center.view(shape)
        spread = _summed(self.weight * centered.square().sum(dims)) / total
        if mean is not None:
            with torch.no_grad():
                mean.lerp_(center.to(mean.dtype), momentum)
                variance.lerp_((spread * (total / (total - 1))).to(variance.dtype), momentum)
        made = centered * torch.rsqrt(spread + eps).view(shape)
        if weight is not None:
            made = made * weight.to(wide.dtype).view(shape)
        if bias is not None:
            made = made + bias.to(wide.dtype).view(shape)
        found: Tensor = made.to(value.dtype)
        return found


def _summed(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks; its gradient is that of all ranks, too."""
    found: Tensor = _Summed.apply(value)  # type: ignore[no-untyped-call]
    return found


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _over_ranks(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _over_ranks(gradient)


def _over_ranks(value: Tensor) -> Tensor:
    found = value.clone()
    with together():
        dist.all_reduce(found)
    return found
