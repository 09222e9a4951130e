"""Activations, softmax and dropout."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsify.onnx_in.op import RULES, Op, onnx_rule

_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "HardSwish": F.hardswish,
    "Mish": F.mish,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Tanh": torch.tanh,
}


def _plain(op: Op, function: Callable[[Tensor], Tensor]) -> Tensor:
    return function(op.tensor(0))


for _name, _function in _PLAIN.items():
    RULES[_name] = functools.partial(_plain, function=_function)


@onnx_rule("LeakyRelu")
def leaky_relu(op: Op) -> Tensor:
    """Negative values times alpha."""
    return F.leaky_relu(op.tensor(0), op.attribute("alpha", 0.01))


@onnx_rule("Elu")
def elu(op: Op) -> Tensor:
    """Alpha (exp(x) - 1) for negative values."""
    return F.elu(op.tensor(0), op.attribute("alpha", 1.0))


@onnx_rule("Celu")
def celu(op: Op) -> Tensor:
    """Alpha (exp(x / alpha) - 1) for negative values."""
    return F.celu(op.tensor(0), op.attribute("alpha", 1.0))


@onnx_rule("Selu")
def selu(op: Op) -> Tensor:
    """Gamma elu(x)."""
    alpha, gamma = op.attribute("alpha", 1.67326319217681884765625), op.attribute("gamma", 1.05070102214813232421875)
    found: Tensor = F.elu(op.tensor(0), alpha) * gamma
    return found


@onnx_rule("ThresholdedRelu")
def thresholded_relu(op: Op) -> Tensor:
    """Zero up to alpha."""
    return F.threshold(op.tensor(0), op.attribute("alpha", 1.0), 0.0)


@onnx_rule("HardSigmoid")
def hard_sigmoid(op: Op) -> Tensor:
    """A line between 0 and 1."""
    alpha, beta = op.attribute("alpha", 0.2), op.attribute("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(op.tensor(0))
    return torch.clamp(op.tensor(0) * alpha + beta, 0.0, 1.0)


@onnx_rule("Shrink")
def shrink(op: Op) -> Tensor:
    """Zero between -lambd and lambd; bias is taken off outside."""
    x, lambd, bias = op.tensor(0), op.attribute("lambd", 0.5), op.attribute("bias", 0.0)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))


@onnx_rule("Gelu")
def gelu(op: Op) -> Tensor:
    """The Gaussian error linear unit, exact or by tanh."""
    return F.gelu(op.tensor(0), approximate=op.attribute("approximate", "none"))


@onnx_rule("PRelu")
def prelu(op: Op) -> Tensor:
    """Negative values times a slope: one, one for each channel, or any shape that is stretched."""
    x, slope = op.tensor(0), op.tensor(1)
    per_channel = x.ndim > 1 and slope.ndim == x.ndim - 1 and slope.numel() == slope.shape[0] == x.shape[1]
    if slope.numel() == 1 or per_channel:
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


@onnx_rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(op: Op) -> Tensor:
    """Before version 13 all dimensions from the axis on are one."""
    x, old = op.tensor(0), op.opset < 13
    axis = op.attribute("axis", 1 if old else -1) % x.ndim
    function = _OVER_AXIS[op.step.type]
    if not old or axis == x.ndim - 1:
        return function(x, axis)
    return function(x.flatten(axis), axis).reshape(x.shape)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


_OVER_AXIS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "Softmax": torch.softmax,
    "LogSoftmax": torch.log_softmax,
    "Hardmax": _hardmax,
}


@onnx_rule("Dropout")
def dropout(op: Op) -> Tensor:
    """What is dropped in training is kept in evaluation."""
    op.only_first()
    ratio = float(op.number(1)) if op.has(1) else float(op.attribute("ratio", 0.5))
    return F.dropout(op.tensor(0), ratio, op.training)
