"""Elementwise arithmetic, comparisons and logic."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparsify.onnx_in.graph import torch_type
from sparsify.onnx_in.op import RULES, Op, onnx_rule

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Identity": torch.clone,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
}
_BINARY: dict[str, Callable[[Any, Any], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
_TENSORS_ONLY = ("And", "Or", "Xor")
_VARIADIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
}


def _register() -> None:
    for name, unary in _UNARY.items():
        RULES[name] = functools.partial(_one, function=unary)
    for name, binary in _BINARY.items():
        RULES[name] = functools.partial(_two, function=binary)
    for name, combine in _VARIADIC.items():
        RULES[name] = functools.partial(_all, function=combine)


def _one(op: Op, function: Callable[[Tensor], Tensor]) -> Tensor:
    return function(op.tensor(0))


def _all(op: Op, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return functools.reduce(function, [op.tensor(i) for i in range(len(op))])


def _two(op: Op, function: Callable[[Any, Any], Tensor]) -> Tensor:
    """Apply a function to two operands; a constant without dimensions stays a number."""
    if op.step.type in _TENSORS_ONLY:
        return function(op.tensor(0), op.tensor(1))
    one, other = op.operand(0), op.operand(1)
    if not isinstance(one, Tensor):
        one = op.tensor(0) if not isinstance(other, Tensor) or op.step.type not in _FLIPPED else one
    if isinstance(one, Tensor):
        return function(one, other)
    return _FLIPPED[op.step.type](other, one)


_FLIPPED: dict[str, Callable[[Any, Any], Tensor]] = {
    "Add": torch.add,
    "Mul": torch.mul,
    "Sub": torch.rsub,
    "Equal": torch.eq,
    "Greater": torch.lt,
    "GreaterOrEqual": torch.le,
    "Less": torch.gt,
    "LessOrEqual": torch.ge,
}

_register()


@onnx_rule("Div")
def div(op: Op) -> Tensor:
    """Integers are divided towards zero."""
    one, other = op.operand(0), op.operand(1)
    if not isinstance(one, Tensor):
        if one == 1 and isinstance(other, Tensor) and other.is_floating_point():
            return torch.reciprocal(other)
        one = op.tensor(0)
    return torch.div(one, other) if one.is_floating_point() else torch.div(one, other, rounding_mode="trunc")


@onnx_rule("Mod")
def mod(op: Op) -> Tensor:
    """The sign is that of the divisor, or with `fmod` that of the dividend."""
    return (torch.fmod if op.attribute("fmod", 0) else torch.remainder)(op.tensor(0), op.operand(1))


@onnx_rule("Pow")
def power(op: Op) -> Tensor:
    """The type is that of the base."""
    base = op.tensor(0)
    return torch.pow(base, op.operand(1)).to(base.dtype)


@onnx_rule("Mean")
def mean(op: Op) -> Tensor:
    """The mean of several tensors."""
    return functools.reduce(torch.add, [op.tensor(i) for i in range(len(op))]) / len(op)


@onnx_rule("Clip")
def clip(op: Op) -> Tensor:
    """Bounds are inputs, and either may be missing."""
    bounds = [op.operand(i) if op.has(i) else None for i in (1, 2)]
    if any(isinstance(bound, Tensor) for bound in bounds):
        bounds = [op.optional(i) for i in (1, 2)]
    if bounds == [None, None]:
        return torch.clone(op.tensor(0))
    return torch.clamp(op.tensor(0), *bounds)


@onnx_rule("Where")
def where(op: Op) -> Tensor:
    """Choose between two by a condition."""
    one, other = op.operand(1), op.operand(2)
    if not isinstance(one, Tensor) and not isinstance(other, Tensor):
        one, other = op.tensor(1), op.tensor(2)
    return torch.where(op.tensor(0), one, other)


@onnx_rule("Cast")
def cast(op: Op) -> Tensor:
    """Change the type."""
    return op.tensor(0).to(torch_type(op.attribute("to"), "the result of Cast"))


@onnx_rule("CastLike")
def cast_like(op: Op) -> Tensor:
    """Change the type to that of another tensor."""
    like = op.value(1)
    return op.tensor(0).to(like.dtype)


@onnx_rule("IsInf")
def is_inf(op: Op) -> Tensor:
    """Find infinite values, of one sign or of both."""
    found = torch.zeros_like(op.tensor(0), dtype=torch.bool)
    if op.attribute("detect_positive", 1):
        found = found | torch.isposinf(op.tensor(0))
    if op.attribute("detect_negative", 1):
        found = found | torch.isneginf(op.tensor(0))
    return found


@onnx_rule("BitShift")
def bit_shift(op: Op) -> Tensor:
    """Shift the bits of integers."""
    shift = torch.bitwise_left_shift if op.attribute("direction") == "LEFT" else torch.bitwise_right_shift
    return shift(op.tensor(0), op.tensor(1))
