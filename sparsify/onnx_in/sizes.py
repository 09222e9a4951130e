"""Arithmetic with shapes: what operators do to numbers that are known when the graph is captured.

The batch may be a symbol among them, so that NumPy arrays of objects do the work, and each number stays what it is.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sparsify.onnx_in.graph import torch_type
from sparsify.onnx_in.op import SIZE_RULES, Host, Op, size_rule

__all__ = ["known"]

_SYM: Any = torch  # its functions for symbols have no types
_MOST = 1024  # numbers that a shape, or what is computed from it, may have


def known(op: Op, values: list[Any]) -> Host | tuple[Host, ...] | None:
    """Return what an operator makes of known numbers; None if it has to be computed with tensors."""
    rule = SIZE_RULES.get(op.step.type)
    given = [value for value in values if value is not None]
    if rule is None or not all(isinstance(value, Host) and value.array.size <= _MOST for value in given):
        return None
    found: Host | tuple[Host, ...] | None = rule(op)
    return found


def _objects(op: Op, index: int = 0) -> Any:
    value = op.value(index)
    assert isinstance(value, Host)
    return value.array.astype(object)


def _type(op: Op, index: int = 0) -> torch.dtype:
    return op.value(index).dtype


def _divided(one: Any, other: Any) -> Any:
    if isinstance(one, float) or isinstance(other, float):
        return one / other
    if isinstance(one, int) and isinstance(other, int):
        return int(one / other) if abs(one) < 2**50 else one // other
    return one // other


def _larger(one: Any, other: Any) -> Any:
    return (
        max(one, other)
        if isinstance(one, (int, float)) and isinstance(other, (int, float))
        else _SYM.sym_max(one, other)
    )


def _smaller(one: Any, other: Any) -> Any:
    return (
        min(one, other)
        if isinstance(one, (int, float)) and isinstance(other, (int, float))
        else _SYM.sym_min(one, other)
    )


_PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Div": _divided,
    "Max": _larger,
    "Min": _smaller,
    "Mod": operator.mod,
    "Mul": operator.mul,
    "Sub": operator.sub,
}
_TESTS: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": operator.eq,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
}


def _register() -> None:
    for table, dtype in ((_PAIRS, None), (_TESTS, torch.bool)):
        for name, function in table.items():
            SIZE_RULES[name] = functools.partial(_pair, function=function, dtype=dtype)


def _pair(op: Op, function: Callable[[Any, Any], Any], dtype: torch.dtype | None) -> Host:
    found = _objects(op)
    for index in range(1, len(op)):
        found = np.frompyfunc(function, 2, 1)(found, _objects(op, index))
    if dtype is torch.bool:
        found = np.frompyfunc(bool, 1, 1)(found)
    return Host.of(found, dtype or _type(op))


_register()


@size_rule("Cast")
def cast(op: Op) -> Host:
    """Numbers of another type; what is symbolic is cut to an integer as a symbol."""
    dtype = torch_type(op.attribute("to"), "the result of Cast")

    def convert(value: Any) -> Any:
        if isinstance(value, (int, float)):
            return bool(value) if dtype is torch.bool else float(value) if dtype.is_floating_point else int(value)
        return _SYM.sym_float(value) if dtype.is_floating_point else _SYM.sym_int(value)

    return Host.of(np.frompyfunc(convert, 1, 1)(_objects(op)), dtype)


@size_rule("Floor", "Ceil")
def rounded(op: Op) -> Host:
    """Rounded down or up."""
    function: Any = math.floor if op.step.type == "Floor" else math.ceil
    found = np.frompyfunc(function, 1, 1)(_objects(op))
    return Host.of(np.frompyfunc(lambda value: value * 1.0, 1, 1)(found), _type(op))


@size_rule("Neg")
def negative(op: Op) -> Host:
    """The opposite."""
    return Host.of(np.frompyfunc(operator.neg, 1, 1)(_objects(op)), _type(op))


@size_rule("Not")
def negation(op: Op) -> Host:
    """The other truth value."""
    return Host.of(np.frompyfunc(operator.not_, 1, 1)(_objects(op)), torch.bool)


@size_rule("Identity")
def identity(op: Op) -> Host:
    """The same."""
    return Host.of(_objects(op), _type(op))


@size_rule("Shape", "Size")
def shape(op: Op) -> Host:
    """The sizes of an array, or their product."""
    sizes = list(_objects(op).shape)
    if op.step.type == "Size":
        return Host.of(math.prod(sizes))
    return Host.of(sizes[slice(op.attribute("start", 0), op.attribute("end"))])


@size_rule("Gather")
def gather(op: Op) -> Host | None:
    """Numbers at some places."""
    index = op.value(1)
    if not isinstance(index, Host) or index.symbolic:
        return None
    return Host.of(np.take(_objects(op), index.array, axis=op.attribute("axis", 0)), _type(op))


@size_rule("Concat")
def concat(op: Op) -> Host:
    """Several arrays in one."""
    parts = [_objects(op, index) for index in range(len(op))]
    return Host.of(np.concatenate(parts, axis=op.attribute("axis")), _type(op))


@size_rule("Squeeze")
def squeeze(op: Op) -> Host:
    """Without dimensions of size one."""
    axes = op.axes(1)
    return Host.of(np.squeeze(_objects(op), None if axes is None else tuple(axes)), _type(op))


@size_rule("Unsqueeze")
def unsqueeze(op: Op) -> Host:
    """With new dimensions of size one."""
    return Host.of(np.expand_dims(_objects(op), tuple(op.axes(1) or ())), _type(op))


@size_rule("Reshape")
def reshape(op: Op) -> Host | None:
    """Another shape, as far as it is known."""
    wanted = op.numbers(1)
    if not all(isinstance(size, int) for size in wanted) or 0 in wanted:
        return None
    return Host.of(_objects(op).reshape(wanted), _type(op))


@size_rule("Transpose")
def transpose(op: Op) -> Host:
    """Dimensions in another order."""
    found = _objects(op)
    return Host.of(found.transpose(op.attribute("perm", range(found.ndim - 1, -1, -1))), _type(op))


@size_rule("Slice")
def slice_(op: Op) -> Host | None:
    """Some of the numbers."""
    given = [op.numbers(index) for index in range(1, len(op)) if op.has(index)]
    if not all(isinstance(number, int) for numbers in given for number in numbers):
        return None
    found, starts, ends = _objects(op), given[0], given[1]
    axes = op.numbers(3) if op.has(3) else list(range(len(starts)))
    steps = op.numbers(4) if op.has(4) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        dim = axis % found.ndim
        stop = None if step < 0 and end < -found.shape[dim] else end
        found = found[(*[slice(None)] * dim, slice(start, stop, step))]
    return Host.of(found, _type(op))


@size_rule("Split")
def split(op: Op) -> tuple[Host, ...] | None:
    """Parts of the numbers."""
    sizes = op.attribute("split") or (op.numbers(1) if op.has(1) else None)
    if sizes is None or not all(isinstance(size, int) for size in sizes):
        return None
    parts = np.split(_objects(op), np.cumsum(sizes)[:-1], axis=op.attribute("axis", 0))
    return tuple(Host.of(part, _type(op)) for part in parts)


@size_rule("Where")
def where(op: Op) -> Host:
    """One or the other."""
    return Host.of(np.where(_objects(op).astype(bool), _objects(op, 1), _objects(op, 2)), _type(op, 1))


@size_rule("ConstantOfShape")
def constant_of_shape(op: Op) -> Host | None:
    """One number, some times."""
    sizes = op.numbers(0)
    value = op.attribute("value", np.zeros(1, np.float32)).reshape(-1)
    if not all(isinstance(size, int) for size in sizes) or len(sizes) > 1 or math.prod(sizes) > _MOST:
        return None
    return Host.of(np.full(sizes, value[0].item(), object), getattr(torch, str(value.dtype)))


@size_rule("Expand")
def expand(op: Op) -> Host | None:
    """The same number, some times."""
    sizes = op.numbers(1)
    if not all(isinstance(size, int) for size in sizes) or len(sizes) > 1 or math.prod(sizes) > _MOST:
        return None
    return Host.of(_objects(op) * np.ones(sizes, object), _type(op))


@size_rule("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def reduced(op: Op) -> Host | None:
    """All numbers in one."""
    found = _objects(op)
    if found.ndim > 1 or (op.axes(1) or [0]) not in ([0], [-1]) or not found.size:
        return None
    name = {"ReduceProd": "Mul", "ReduceSum": "Add", "ReduceMax": "Max", "ReduceMin": "Min"}[op.step.type]
    total = found.reshape(-1)[0]
    for value in found.reshape(-1)[1:]:
        total = _PAIRS[name](total, value)
    return Host.of([total] if op.attribute("keepdims", 1) and found.ndim else total, _type(op))
