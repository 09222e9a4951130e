"""Pools."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsify.onnx_in.op import Op, onnx_rule
from sparsify.onnx_in.windows import Windows

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _windows(op: Op) -> Windows:
    windows = Windows.of(op, op.tensor(0), list(op.attribute("kernel_shape", [])))
    if len(windows.kernel) not in _MAX:
        raise op.refused(f"it has {len(windows.kernel)} spatial dimensions, and PyTorch has one to three")
    return windows


@onnx_rule("MaxPool")
def max_pool(op: Op) -> Tensor:
    """The largest value of every window."""
    op.only_first()
    windows = _windows(op)
    fits = all(2 * pad <= kernel for pad, kernel in zip(windows.begin, windows.kernel, strict=True))
    x, padding = op.tensor(0), windows.begin
    if not fits or windows.begin != windows.end:
        x, padding = windows.widened(x, float("-inf")), [0] * len(padding)
    function: Any = _MAX[len(windows.kernel)]
    found: Tensor = function(
        x, windows.kernel, windows.strides, padding, windows.dilations, bool(op.attribute("ceil_mode", 0))
    )
    return found


@onnx_rule("AveragePool")
def average_pool(op: Op) -> Tensor:
    """The mean of every window; padding counts where the attribute says so."""
    windows, x = _windows(op), op.tensor(0)
    if any(dilation != 1 for dilation in windows.dilations):
        raise op.refused("its windows are dilated, which pools of PyTorch are not")
    function: Any = _MEAN[len(windows.kernel)]
    up, counted = bool(op.attribute("ceil_mode", 0)), bool(op.attribute("count_include_pad", 0))
    fits = all(2 * pad <= kernel for pad, kernel in zip(windows.begin, windows.kernel, strict=True))
    if fits and windows.begin == windows.end:
        even: Tensor = function(x, windows.kernel, windows.strides, windows.begin, up, counted)
        return even
    sums: Tensor = function(windows.widened(x, 0.0), windows.kernel, windows.strides, 0, up, False)
    if counted:
        return sums
    ones = torch.ones_like(x[:1, :1])
    share = function(windows.widened(ones, 0.0), windows.kernel, windows.strides, 0, up, False)
    found: Tensor = sums / share
    return found


@onnx_rule("LpPool")
def lp_pool(op: Op) -> Tensor:
    """The p-norm of every window."""
    windows, p = _windows(op), op.attribute("p", 2)
    if any(dilation != 1 for dilation in windows.dilations) or op.attribute("ceil_mode", 0):
        raise op.refused("its windows are dilated or rounded up, which pools of PyTorch are not")
    function: Any = _MEAN[len(windows.kernel)]
    powers = windows.widened(op.tensor(0), 0.0).abs().pow(p)
    count = 1
    for size in windows.kernel:
        count *= size
    found: Tensor = (function(powers, windows.kernel, windows.strides) * count).pow(1 / p)
    return found


@onnx_rule("GlobalAveragePool")
def global_average_pool(op: Op) -> Tensor:
    """The mean over space."""
    x = op.tensor(0)
    return x.mean(list(range(2, x.ndim)), keepdim=True)


@onnx_rule("GlobalMaxPool")
def global_max_pool(op: Op) -> Tensor:
    """The largest value in space."""
    x = op.tensor(0)
    return x.amax(list(range(2, x.ndim)), keepdim=True)
