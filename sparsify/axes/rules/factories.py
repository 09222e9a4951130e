"""Operators that make values from sizes, and sizes from values."""

from __future__ import annotations

from typing import Any

from sparsify.axes.op import Dims, Op, axis_rule, fresh


def _sized(op: Op, position: int) -> Dims:
    """The result has the sizes of an argument: new axes that whoever meets them decides on."""
    result = [fresh(size) for size in op.shape]
    op.size_at(position, result)
    return result


@axis_rule("aten::zeros", "aten::ones", "aten::full", "aten::empty", "aten::rand", "aten::randn")
def made(op: Op) -> Dims:
    """The same value, or noise, everywhere."""
    op.facts.zero = _is_zero(op)
    return _sized(op, 0)


@axis_rule("aten::new_zeros", "aten::new_ones", "aten::new_full", "aten::new_empty")
def made_like_type(op: Op) -> Dims:
    """As above; the first argument only gives the type."""
    op.facts.zero = _is_zero(op)
    op.content(op.arg(0))
    return _sized(op, 1)


@axis_rule("aten::zeros_like", "aten::ones_like", "aten::full_like", "aten::empty_like", "aten::rand_like",
           "aten::randn_like", "aten::fill", "aten::zero")  # fmt: skip
def made_like(op: Op) -> Dims:
    """With the sizes of a value."""
    op.facts.zero = _is_zero(op)
    op.content(op.arg(0))
    return op.dims(op.arg(0))


def _is_zero(op: Op) -> bool:
    name = op.name
    if name.startswith(("full", "new_full", "fill")):
        return bool(op.arg(2 if name.startswith("new") else 1, "fill_value") == 0)
    return "zero" in name


@axis_rule("aten::arange", "aten::linspace", "aten::eye", "aten::scalar_tensor")
def numbered(op: Op) -> Dims:
    """Every index has another value."""
    return op.fixed("every index has its own number")


@axis_rule("aten::sym_size", "aten::size", "aten::sym_numel", "aten::numel")
def size_of(op: Op) -> Any:
    """A size that the model computes with."""
    dims = op.dims(op.arg(0))
    op.freeze([dims[op.arg(1)]] if len(op.node.args) > 1 else dims, "the model computes with its size")
    op.content(op.arg(0))
    return []


_ARITHMETIC = """add sub mul floordiv truediv mod neg pow eq ne lt le gt ge and_ or_
    sym_max sym_min sym_float sym_int sym_not sym_sqrt sym_ite"""


@axis_rule(*(f"python::{name}" for name in _ARITHMETIC.split()))
def number(op: Op) -> Dims:
    """Arithmetic on sizes, which are numbers and have no dimensions."""
    return op.broadcast(*op.node.all_input_nodes)
