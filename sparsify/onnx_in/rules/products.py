"""Layers that multiply: linear, convolutions and products of tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsify.onnx_in.op import Op, onnx_rule
from sparsify.onnx_in.windows import Windows, split_padding

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@onnx_rule("sparsify.Linear")
def linear(op: Op) -> Tensor:
    """A product with a weight [outputs, inputs] and its bias, as `sparsify.onnx_in.layers` finds them."""
    return F.linear(op.tensor(0), op.tensor(1), op.optional(2))


@onnx_rule("MatMul")
def matmul(op: Op) -> Tensor:
    """The product of matrices or batches of them."""
    return torch.matmul(op.tensor(0), op.tensor(1))


@onnx_rule("Gemm")
def gemm(op: Op) -> Tensor:
    """Compute alpha A B + beta C."""
    a, b = (op.tensor(i).t() if op.attribute(name, 0) else op.tensor(i) for i, name in enumerate(("transA", "transB")))
    product = _times(torch.mm(a, b), op.attribute("alpha", 1.0))
    return product + _times(op.tensor(2), op.attribute("beta", 1.0)) if op.has(2) else product


def _times(value: Tensor, factor: float) -> Tensor:
    return value if factor == 1 else value * factor


@onnx_rule("Einsum")
def einsum(op: Op) -> Tensor:
    """Einstein's sums."""
    equation: Any = op.attribute("equation")
    if not isinstance(equation, str):
        raise op.refused("it has no equation")
    return torch.einsum(equation.replace(" ", ""), *(op.tensor(i) for i in range(len(op))))


@onnx_rule("Conv")
def conv(op: Op) -> Tensor:
    """A convolution over one to three dimensions."""
    x, weight = op.tensor(0), op.tensor(1)
    windows = Windows.of(op, x, list(weight.shape[2:]))
    if len(windows.kernel) not in _CONV:
        raise op.refused(f"it has {len(windows.kernel)} spatial dimensions, and PyTorch has one to three")
    x, padding = windows.padded(x, 0.0)
    function: Any = _CONV[len(windows.kernel)]
    found: Tensor = function(
        x, weight, op.optional(2), windows.strides, padding, windows.dilations, op.attribute("group", 1)
    )
    return found


@onnx_rule("ConvTranspose")
def conv_transpose(op: Op) -> Tensor:
    """A transposed convolution; what `output_shape` or uneven padding ask for is cut out of the whole result."""
    x, weight = op.tensor(0), op.tensor(1)
    kernel = list(weight.shape[2:])
    count = len(kernel)
    if count not in _TRANSPOSED:
        raise op.refused(f"it has {count} spatial dimensions, and PyTorch has one to three")
    strides, dilations = op.attribute("strides", [1] * count), op.attribute("dilations", [1] * count)
    extra, pads = op.attribute("output_padding", [0] * count), op.attribute("pads", [0] * 2 * count)
    mode, group = op.attribute("auto_pad", "NOTSET"), op.attribute("group", 1)
    wanted = op.attribute("output_shape")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [int(x.shape[2 + i]) * strides[i] for i in range(count)]
    if wanted is not None:
        whole = [(int(x.shape[2 + i]) - 1) * strides[i] + extra[i] + (kernel[i] - 1) * dilations[i] + 1
                 for i in range(count)]  # fmt: skip
        pads = split_padding([size - last for size, last in zip(whole, wanted[-count:], strict=True)],
                             "SAME_UPPER" if mode == "SAME_UPPER" else "SAME_LOWER")  # fmt: skip
    if mode == "VALID":
        pads = [0] * 2 * count
    begin, end = pads[:count], pads[count:]
    function: Any = _TRANSPOSED[count]
    if begin == end and min(begin) >= 0:
        even: Tensor = function(x, weight, op.optional(2), strides, begin, extra, group, dilations)
        return even
    found: Tensor = function(x, weight, op.optional(2), strides, [0] * count, extra, group, dilations)
    sides = [-side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]
    return F.pad(found, sides)
