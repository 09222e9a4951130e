"""Statistics of batch norms: means and variances of what reaches them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from sparsify.errors import PassError
from sparsify.observation.calibration import Calibration
from sparsify.observation.watching import Watched
from sparsify.program import Program

__all__ = ["batch_statistics"]


def batch_statistics(
    program: Program, norms: Sequence[fx.Node], calibration: Calibration
) -> Iterator[tuple[fx.Node, Tensor, Tensor]]:
    """Run a program whose batch norms use the statistics of each batch; yield the mean and variance of all values.

    The variance is the unbiased one, as torch keeps it. Memory does not grow with the number of batches.

    Args:
        program: any program.
        norms: its batch norms.
        calibration: the data.

    Raises:
        PassError: there is a single value for each channel.
    """
    watched = Watched(program)
    sums = {node: _Sums() for node in norms}
    for node in norms:
        watched.look(node, partial(_see, sums[node]))
        watched.result(node, partial(_normalised, sums[node]))
    with torch.no_grad():
        for _ in calibration.run(watched.ready(), program):
            pass
    for node, found in sums.items():
        if found.count < 2:
            raise PassError(
                f"The norm {node.name} gets one value for each channel: it has no variance. Give more data."
            )
        mean = torch.as_tensor(found.total / found.count)
        squares = torch.as_tensor(found.squares / found.count)
        variance = (squares - mean.square()).clamp_min(0) * found.count / max(1, found.count - 1)
        yield node, mean, variance


class _Sums:
    """What a norm has seen: sums for each channel in float64, and the last batch's arguments."""

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0
        self.count = 0
        self.args: tuple[Any, ...] = ()


def _see(sums: _Sums, *args: Any) -> None:
    values = args[0].double().transpose(0, 1).flatten(1)
    sums.total = sums.total + values.sum(1)
    sums.squares = sums.squares + values.square().sum(1)
    sums.count += values.shape[1]
    sums.args = args


def _normalised(sums: _Sums, value: Tensor) -> Tensor:
    """Return what a norm gives with the statistics of its batch."""
    x, weight, bias = sums.args[:3]
    epsilon = sums.args[7]
    if x.numel() == x.shape[1]:  # one value for each channel has no variance
        return value
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=epsilon)
