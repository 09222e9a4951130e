"""Value ranges: what a graph says about the smallest and largest value of each node, without running it.

This proves that an activation does nothing: the ReLU behind a removed residual block reads what another ReLU wrote.
"""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import fx

__all__ = ["is_redundant", "ranges"]

aten = torch.ops.aten
Range = tuple[float, float]
_ANYTHING: Range = (-inf, inf)

_KEEP = {  # the values of the result are values of the first argument
    aten.view.default, aten.reshape.default, aten.permute.default, aten.transpose.int, aten.flatten.using_ints,
    aten.contiguous.default, aten.clone.default, aten.detach.default, aten.slice.Tensor, aten.select.int,
    aten.unsqueeze.default, aten.squeeze.dim, aten.expand.default, aten.alias.default, aten.to.dtype,
    aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default, aten.adaptive_max_pool2d.default,
    aten.upsample_nearest2d.vec, aten.amax.default,
}  # fmt: skip
_AVERAGE = {  # averages of the values of the first argument, perhaps with padded zeros
    aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default, aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default, aten.mean.dim, aten.constant_pad_nd.default,
}  # fmt: skip
_UNIT = {aten.sigmoid.default, aten.softmax.int, aten._softmax.default, aten.hardsigmoid.default}
_RECTIFY = {aten.relu.default, aten.relu_.default}
_CLAMP = {aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default}


def ranges(graph: fx.Graph) -> dict[fx.Node, Range]:
    """Return bounds of every node's values, `(-inf, inf)` where nothing is known."""
    known: dict[fx.Node, Range] = {}
    for node in graph.nodes:
        known[node] = _range(node, known)
    return known


def is_redundant(node: fx.Node, known: dict[fx.Node, Range]) -> bool:
    """Whether `node` is a ReLU or a clamp whose input already lies in its output range."""
    if node.target not in _RECTIFY | _CLAMP or not isinstance(node.args[0], fx.Node):
        return False
    low, high = known[node.args[0]]
    smallest, largest = _limits(node)
    return smallest <= low and high <= largest


def _limits(node: fx.Node) -> Range:
    if node.target in _RECTIFY:
        return 0.0, inf
    default = _ANYTHING if node.target is aten.clamp.default else (-1.0, 1.0)
    low, high = (_argument(node, i, name, default[i - 1]) for i, name in ((1, "min"), (2, "max")))
    return low, high


def _argument(node: fx.Node, index: int, name: str, default: float) -> float:
    key = name if node.target is aten.clamp.default else f"{name}_val"
    value: Any = node.args[index] if len(node.args) > index else node.kwargs.get(key, default)
    return float(value) if isinstance(value, (int, float)) else default


def _range(node: fx.Node, known: dict[fx.Node, Range]) -> Range:
    target = node.target
    if target in _UNIT:
        return 0.0, 1.0
    inputs = [known.get(argument, _ANYTHING) for argument in node.args[:2] if isinstance(argument, fx.Node)]
    if not inputs:
        return _ANYTHING
    low, high = inputs[0]
    if target in _KEEP:
        return low, high
    if target in _AVERAGE:
        return min(low, 0.0), max(high, 0.0)
    if target in _RECTIFY | _CLAMP:
        smallest, largest = _limits(node)
        return min(max(low, smallest), largest), max(min(high, largest), smallest)
    if target is aten.dropout.default:  # survivors are scaled up in training
        return (0.0 if low >= 0 else -inf), inf
    if len(inputs) == 2 and min(low, inputs[1][0]) >= 0 and target in (aten.add.Tensor, aten.mul.Tensor):
        return 0.0, inf
    return _ANYTHING
