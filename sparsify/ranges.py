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
    aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default, aten.mean.dim,
}  # fmt: skip
_UNIT = {aten.sigmoid.default, aten.softmax.int, aten._softmax.default, aten.hardsigmoid.default}
_KEEP_SIGN = {aten.add.Tensor, aten.mul.Tensor}
_RECTIFY = {aten.relu.default, aten.relu_.default}
_HARDTANH = {aten.hardtanh.default, aten.hardtanh_.default}
_RELU6 = {aten.relu6.default, aten.relu6_.default}
_CLAMP = {*_HARDTANH, *_RELU6, aten.clamp.default, aten.clamp_min.default}
_PAD = {aten.constant_pad_nd.default: 2, aten.pad.default: 3}  # with the position of the value


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
    if node.target in _RELU6:
        return 0.0, 6.0
    default = (-1.0, 1.0) if node.target in _HARDTANH else _ANYTHING
    low, high = (_argument(node, i, name, default[i - 1]) for i, name in ((1, "min"), (2, "max")))
    return low, high


def _argument(node: fx.Node, index: int, name: str, default: float) -> float:
    key = f"{name}_val" if node.target in _HARDTANH else name
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
        if len(node.args) > 6 and node.args[6] is not None:  # divided by a number of the user's, not by the window
            return (0.0 if low >= 0 else -inf), (0.0 if high <= 0 else inf)
        return min(low, 0.0), max(high, 0.0)
    if target in _PAD:
        value = _argument(node, _PAD[target], "value", 0.0)
        return min(low, value), max(high, value)
    if target in _RECTIFY | _CLAMP:
        smallest, largest = _limits(node)
        return min(max(low, smallest), largest), max(min(high, largest), smallest)
    if target is aten.dropout.default:  # survivors are scaled up in training
        return (0.0 if low >= 0 else -inf), inf
    if len(inputs) == 2 and not node.kwargs and min(low, inputs[1][0]) >= 0 and target in _KEEP_SIGN:
        return 0.0, inf
    return _ANYTHING
