"""Normalisations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsify.onnx_in.op import Op, onnx_rule

_EPSILON = 1e-5


@onnx_rule("BatchNormalization")
def batch_norm(op: Op) -> Tensor:
    """Batch norm with running statistics, which training renews."""
    op.only_first()
    if op.attribute("training_mode", 0):
        raise op.refused("it is exported in training mode; export the model in evaluation mode")
    mean, variance = op.tensor(3), op.tensor(4)
    momentum = 1 - op.attribute("momentum", 0.9)
    epsilon = op.attribute("epsilon", _EPSILON)
    return F.batch_norm(op.tensor(0), mean, variance, op.tensor(1), op.tensor(2), op.training, momentum, epsilon)


@onnx_rule("LayerNormalization")
def layer_norm(op: Op) -> Tensor:
    """Layer norm over all dimensions from the axis on."""
    op.only_first()
    x, scale, shift = op.tensor(0), op.tensor(1), op.optional(2)
    sizes = list(x.shape[op.attribute("axis", -1) % x.ndim :])
    epsilon = op.attribute("epsilon", _EPSILON)
    if list(scale.shape) == sizes and (shift is None or list(shift.shape) == sizes):
        return F.layer_norm(x, sizes, scale, shift, epsilon)
    found = F.layer_norm(x, sizes, eps=epsilon) * scale
    return found if shift is None else found + shift


@onnx_rule("RMSNormalization")
def rms_norm(op: Op) -> Tensor:
    """Divide by the root mean square over all dimensions from the axis on."""
    x = op.tensor(0)
    dims = list(range(op.attribute("axis", -1) % x.ndim, x.ndim))
    mean = x.square().mean(dims, keepdim=True)
    return x * torch.rsqrt(mean + op.attribute("epsilon", _EPSILON)) * op.tensor(1)


@onnx_rule("InstanceNormalization")
def instance_norm(op: Op) -> Tensor:
    """Normalise every channel of every example over space."""
    return F.instance_norm(op.tensor(0), weight=op.tensor(1), bias=op.tensor(2), eps=op.attribute("epsilon", _EPSILON))


@onnx_rule("GroupNormalization")
def group_norm(op: Op) -> Tensor:
    """Normalise groups of channels; before version 21 scale and shift have a value for each group."""
    x, scale, shift = op.tensor(0), op.tensor(1), op.tensor(2)
    groups, epsilon = int(op.attribute("num_groups")), op.attribute("epsilon", _EPSILON)
    if op.opset < 21:
        repeats = x.shape[1] // groups
        scale, shift = scale.repeat_interleave(repeats), shift.repeat_interleave(repeats)
    return F.group_norm(x, groups, scale, shift, epsilon)


@onnx_rule("LpNormalization")
def lp_normalization(op: Op) -> Tensor:
    """Divide by the p-norm along an axis."""
    x = op.tensor(0)
    found: Tensor = x / torch.linalg.vector_norm(x, op.attribute("p", 2), op.attribute("axis", -1), keepdim=True)
    return found


@onnx_rule("MeanVarianceNormalization")
def mean_variance_normalization(op: Op) -> Tensor:
    """Subtract the mean and divide by the deviation over some axes."""
    x, dims = op.tensor(0), list(op.attribute("axes", [0, 2, 3]))
    mean = x.mean(dims, keepdim=True)
    variance = x.square().mean(dims, keepdim=True) - mean.square()
    return (x - mean) / (variance.sqrt() + 1e-9)


@onnx_rule("LRN")
def local_response_norm(op: Op) -> Tensor:
    """Divide by the squares of neighbouring channels."""
    alpha, beta, bias = op.attribute("alpha", 1e-4), op.attribute("beta", 0.75), op.attribute("bias", 1.0)
    size = int(op.attribute("size"))
    if size % 2 == 0:
        raise op.refused("its window has an even number of channels")
    return F.local_response_norm(op.tensor(0), size, alpha, beta, bias)
