"""Elementwise operators: the result has the dimensions of the arguments, broadcast."""

from __future__ import annotations

from typing import Any

from torch import fx

from sparsify.axes.op import RULES, Dims, Op, axis_rule, key_of
from sparsify.axes.rules import POINTWISE


def _names(text: str) -> list[str]:
    return [f"aten::{name}" for name in text.split()]


def pointwise(op: Op) -> Dims:
    """Align all tensors; nothing is known about zeros."""
    return op.broadcast(*op.node.all_input_nodes)


RULES[POINTWISE] = pointwise
axis_rule(*_names("log_sigmoid alpha_dropout greater greater_equal less less_equal not_equal"))(pointwise)  # untagged


@axis_rule(*_names(
    "relu gelu silu tanh sin tan asin atan sinh asinh atanh erf expm1 log1p abs absolute neg negative sign sgn sqrt "
    "floor ceil round trunc frac relu6 hardswish mish elu selu celu leaky_relu hardshrink softshrink rrelu "
    "to type_as _to_copy contiguous clone detach alias lift_fresh lift_fresh_copy dropout feature_dropout square "
    "deg2rad rad2deg positive real nan_to_num conj resolve_conj resolve_neg"
))  # fmt: skip
def unary(op: Op) -> Dims:
    """Keep the dimensions; zero where the argument is."""
    value = op.arg(0)
    op.zero_where(value)
    if key_of(op.node) in _KEEP_VALUES:
        op.facts.content = op.content(value)
    return op.dims(value)


_KEEP_VALUES = set(_names("to clone contiguous detach alias _to_copy lift_fresh lift_fresh_copy"))


@axis_rule("aten::mul", "aten::multiply", "aten::logical_and", "aten::__and__", "aten::bitwise_and")
def multiplied(op: Op) -> Dims:
    """Zero where one of the arguments is."""
    op.zero_where(op.arg(0), op.arg(1, "other"))
    return op.broadcast(op.arg(0), op.arg(1, "other"))


@axis_rule("aten::add", "aten::sub", "aten::subtract", "aten::rsub", "aten::maximum", "aten::minimum", "aten::fmax",
           "aten::fmin", "aten::logical_or", "aten::__or__", "aten::bitwise_or", "aten::hypot")  # fmt: skip
def added(op: Op) -> Dims:
    """Zero where both arguments are."""
    first, second = op.arg(0), op.arg(1, "other")
    if _all_zero_or_node(first, second):
        op.zero_where(addends=[value for value in (first, second) if isinstance(value, fx.Node)])
    dims = op.broadcast(first, second)
    if all(isinstance(value, fx.Node) and value.op != "get_attr" for value in (first, second)):
        op.role("added", *dims)
    return dims


@axis_rule("aten::div", "aten::divide", "aten::true_divide", "aten::floor_divide", "aten::remainder", "aten::fmod")
def divided(op: Op) -> Dims:
    """Zero where the dividend is, if the divisor is not."""
    dividend, divisor = op.arg(0), op.arg(1, "other")
    op.zero_where(dividend)
    op.pole(divisor)
    return op.broadcast(dividend, divisor)


@axis_rule("aten::pow")
def power(op: Op) -> Dims:
    """Zero where the base is, for a positive exponent."""
    base, exponent = op.arg(0), op.arg(1, "exponent")
    if isinstance(exponent, (int, float)) and exponent > 0:
        op.zero_where(base)
    elif not (isinstance(exponent, (int, float)) and exponent == 0):
        op.pole(base)
    return op.broadcast(base, exponent)


@axis_rule(*_names("log log2 log10 reciprocal rsqrt logit digamma lgamma"))
def with_pole(op: Op) -> Dims:
    """Not finite at zero."""
    op.pole(op.arg(0))
    return op.dims(op.arg(0))


@axis_rule("aten::clamp", "aten::clamp_min", "aten::clamp_max", "aten::clip", "aten::hardtanh")
def clamped(op: Op) -> Dims:
    """Zero where the argument is, if zero lies between the bounds."""
    low, high = _bounds(op)
    known = not any(isinstance(bound, fx.Node) for bound in (low, high))
    if known and (low is None or low <= 0) and (high is None or high >= 0):
        op.zero_where(op.arg(0))
    return op.broadcast(op.arg(0), low, high)


def _bounds(op: Op) -> tuple[Any, Any]:
    if op.name.startswith("clamp_min"):
        return op.arg(1, "min"), None
    if op.name.startswith("clamp_max"):
        return None, op.arg(1, "max")
    return op.arg(1, "min"), op.arg(2, "max")  # hardtanh's defaults are on both sides of zero, as None is


@axis_rule("aten::threshold")
def threshold(op: Op) -> Dims:
    """Zero where the argument is, if what replaces small values is zero."""
    if op.arg(2, "value") == 0:
        op.zero_where(op.arg(0))
    return op.dims(op.arg(0))


@axis_rule("aten::where")
def chosen(op: Op) -> Dims:
    """Zero where both alternatives are."""
    condition, first, second = op.arg(0), op.arg(1, "self"), op.arg(2, "other")
    if _all_zero_or_node(first, second):
        op.zero_where(addends=[value for value in (first, second) if isinstance(value, fx.Node)])
    return op.broadcast(condition, first, second)


@axis_rule("aten::masked_fill")
def filled(op: Op) -> Dims:
    """Zero where the argument is, if it is filled with zeros."""
    if op.arg(2, "value") == 0:
        op.zero_where(op.arg(0))
    return op.broadcast(op.arg(0), op.arg(1, "mask"))


@axis_rule("aten::lerp")
def interpolated(op: Op) -> Dims:
    """Zero where both ends are."""
    op.zero_where(addends=[op.arg(0), op.arg(1, "end")])
    return op.broadcast(op.arg(0), op.arg(1, "end"), op.arg(2, "weight"))


@axis_rule("aten::addcmul")
def added_product(op: Op) -> Dims:
    """Self + tensor1 * tensor2: nothing is said about zeros of the product."""
    return op.broadcast(op.arg(0), op.arg(1, "tensor1"), op.arg(2, "tensor2"))


@axis_rule("aten::prelu")
def prelu(op: Op) -> Dims:
    """The slope has one value, or one for each channel."""
    dims, slope = op.dims(op.arg(0)), op.dims(op.arg(1, "weight"))
    if len(slope) == 1 and len(dims) > 1:
        op.broadcast_dims([[dims[1]], slope])
    op.zero_where(op.arg(0))
    return dims


def _all_zero_or_node(*values: Any) -> bool:
    return all(isinstance(value, fx.Node) or value == 0 for value in values)
