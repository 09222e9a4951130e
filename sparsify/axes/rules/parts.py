"""Operators that join dimensions one behind the other, or take parts of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import SymInt, fx

from sparsify.axes.axis import ONE, Axis, cut, find, freeze_all, product, split_off, total
from sparsify.axes.op import Dims, Op, axis_rule, fresh, key_of

if TYPE_CHECKING:
    from sparsify.axes.resize import Resizing


@axis_rule("aten::cat", "aten::concat", "aten::concatenate")
def joined(op: Op) -> Dims:
    """One behind the other: a sum."""
    values = [value for value in op.arg(0) if len(op.dims(value)) > 0]
    values = [value for value in values if not (len(op.dims(value)) == 1 and op.dims(value)[0].size == 0)]
    dim = op.arg(1, "dim", 0)
    result = list(op.dims(values[0]))
    dim %= len(result)
    for other in values[1:]:
        for index, (axis, same) in enumerate(zip(result, op.dims(other), strict=True)):
            if index != dim:
                op.same(axis, same)
    result[dim] = total([op.dims(value)[dim] for value in values])
    op.zero_where(parts=values)
    return result


@axis_rule("aten::stack")
def stacked(op: Op) -> Dims:
    """A new dimension whose indices are the values."""
    values, dim = list(op.arg(0)), op.arg(1, "dim", 0)
    result = list(op.dims(values[0]))
    for other in values[1:]:
        for axis, same in zip(result, op.dims(other), strict=True):
            op.same(axis, same)
    result.insert(dim % (len(result) + 1), Axis(len(values), "its indices are stacked values") if values[1:] else ONE)
    op.zero_where(addends=values)
    return result


@axis_rule("aten::split", "aten::split_with_sizes", "aten::chunk", "aten::tensor_split", "aten::unsafe_split",
           "aten::unsafe_chunk")  # fmt: skip
def split(op: Op) -> tuple[Dims, ...]:
    """Consecutive parts of a dimension."""
    value, dim = op.arg(0), op.arg(2, "dim", 0)
    dims = op.dims(value)
    dim %= len(dims)
    outputs: Any = op.node.meta["val"]
    sizes = [output.shape[dim] for output in outputs]
    parts = _cut(dims[dim], sizes)
    op.zero_where(value)
    op.fix(list(parts), lambda resizing: _split_by_sizes(resizing, dim, parts))
    return tuple([*dims[:dim], _broadcasting(part), *dims[dim + 1 :]] for part in parts)


def _broadcasting(part: Axis) -> Axis:
    """A part of one index is a dimension of size one like any other."""
    return ONE if part.size == 1 and not part.dynamic else part


def _cut(axis: Axis, sizes: Sequence[int | SymInt]) -> Dims:
    if all(type(size) is int for size in sizes) and not axis.dynamic:
        return cut(axis, [int(size) for size in sizes])
    freeze_all([axis], "it is cut at a dynamic place")
    return [fresh(size, "it is cut at a dynamic place") for size in sizes]


def _split_by_sizes(resizing: Resizing, dim: int, parts: Dims) -> None:
    """Equal parts may be unequal afterwards."""
    node = resizing.node
    node.target = torch.ops.aten.split_with_sizes.default
    node.args, node.kwargs = (node.args[0], [resizing.size(part) for part in parts], dim), {}


@axis_rule("aten::unbind")
def unbound(op: Op) -> tuple[Dims, ...]:
    """Every index by itself."""
    value, dim = op.arg(0), op.arg(1, "dim", 0)
    dims = op.dims(value)
    dim %= len(dims)
    _cut_into_ones(dims[dim])
    op.zero_where(value)
    return tuple([*dims[:dim], *dims[dim + 1 :]] for _ in range(dims[dim].size))


def _cut_into_ones(axis: Axis) -> None:
    axis = find(axis)
    if axis.kind == "leaf" and not axis.dynamic:
        cut(axis, [1] * axis.size)
    freeze_all([axis], "its indices are taken one by one")


@axis_rule("aten::select")
def selected(op: Op) -> Dims:
    """One index of a dimension."""
    value, dim, index = op.arg(0), op.arg(1, "dim"), op.arg(2, "index")
    dims = op.dims(value)
    dim %= len(dims)
    axis = dims[dim]
    op.zero_where(value)
    rest = [*dims[:dim], *dims[dim + 1 :]]
    if axis.dynamic or not isinstance(index, int) or not op.prunable(axis):
        op.freeze([axis], "one of its indices is taken")
        return rest
    index %= axis.size
    before, _, _ = cut(axis, [index, 1, axis.size - index - 1])
    op.fix([axis], lambda resizing: resizing.node.update_arg(2, resizing.size(before)))
    return rest


@axis_rule("aten::slice", "aten::narrow")
def sliced(op: Op) -> Dims:
    """A range of indices, or every n-th."""
    value, dim = op.arg(0), op.arg(1, "dim", 0)
    dims = list(op.dims(value))
    dim %= len(dims)
    axis, size = dims[dim], op.shape[dim]
    op.zero_where(value)
    if type(size) is int and not axis.dynamic and size == axis.size:
        op.fix([axis], lambda resizing: _write_range(resizing, dim, [], axis))
        return dims
    if axis.dynamic or type(size) is not int or not op.prunable(axis) or not _has_numbers(op):
        op.freeze([axis], "a range of it is taken")
        dims[dim] = fresh(size, "it is a range of a fixed axis")
        return dims
    start, step = op.arg(2, "start", 0) or 0, (op.arg(4, "step", 1) if op.name.startswith("slice") else 1)
    start = min(max(start + axis.size, 0) if start < 0 else start, axis.size)
    if step > 1:
        dims[dim] = _every(axis, step, start, size)
        op.fix([axis], lambda resizing: resizing.node.update_arg(2, start))
        return dims
    before, inside, _ = cut(axis, [start, size, axis.size - start - size])
    op.fix([axis], lambda resizing: _write_range(resizing, dim, [before], inside))
    dims[dim] = _broadcasting(inside)
    return dims


def _has_numbers(op: Op) -> bool:
    return not any(isinstance(argument, fx.Node) for argument in op.node.args[1:])


def _write_range(resizing: Resizing, dim: int, before: Dims, inside: Axis) -> None:
    """Bounds that counted from the end count from the start now."""
    start, size, node = sum(map(resizing.size, before)), resizing.size(inside), resizing.node
    node.args, node.kwargs = (node.args[0], dim, start, start + size if key_of(node) == "aten::slice" else size), {}


def _every(axis: Axis, step: int, start: int, size: int) -> Axis:
    """Every n-th index: those of the other residues stay beside it."""
    fits = axis.size % step == 0 and start < step and 1 < size == axis.size // step
    parts = split_off(axis, step) if fits else None
    if parts is None:
        freeze_all([axis], "every n-th of its indices is taken")
        return fresh(size, "it is every n-th index of a fixed axis")
    inner: list[Axis] = []
    while math.prod(part.size for part in inner) < step:
        inner.append(parts.pop())
    freeze_all(inner, "its indices are taken one by one")
    return product(parts)


@axis_rule("python::getitem")
def item(op: Op) -> Dims:
    """One of several results."""
    value, index = op.node.args
    results = op.results(value)  # type: ignore[arg-type]
    op.zero_where(value)
    op.facts.content = op.content(value, index)  # type: ignore[arg-type]
    return list(results[index]) if results else []  # type: ignore[index]


@axis_rule("aten::constant_pad_nd", "aten::pad")
def padded(op: Op) -> Dims:
    """New indices before and after: those of a padded channel may be removed again."""
    value, amounts = op.arg(0), list(op.arg(1))
    is_pad = op.name.startswith("pad.")
    constant = op.arg(3 if is_pad else 2, "value", 0) or 0
    mode = op.arg(2, "mode", "constant") if is_pad else "constant"
    dims = list(op.dims(value))
    ends: Dims = []
    for index in range(len(amounts) // 2):
        dim, (before, after) = -1 - index, amounts[2 * index : 2 * index + 2]
        if any(isinstance(a, fx.Node) or a < 0 for a in (before, after)) or mode != "constant" or dims[dim].dynamic:
            op.freeze([dims[dim]], "it is padded with its own values")
            dims[dim] = fresh(op.shape[dim], "it is padded with its own values")
            ends += [Axis(a, "it is padded") if isinstance(a, int) and a >= 0 else ONE for a in (before, after)]
        else:
            ends += [Axis(before), Axis(after)]
            dims[dim] = total([ends[-2], dims[dim], ends[-1]])
    if all(isinstance(a, int) and a >= 0 for a in amounts):
        op.size_at(1, ends)
    if constant == 0:
        op.zero_where(parts=[value])
    return dims


@axis_rule("aten::roll", "aten::flip")
def moved(op: Op) -> Dims:
    """Indices change their places."""
    value = op.arg(0)
    dims = op.dims(value)
    along = op.arg(2, "dims", []) if op.name.startswith("roll") else op.arg(1)
    along = [along] if isinstance(along, int) else along
    op.freeze([dims[d] for d in along] if along else dims, "its indices change their places")
    op.zero_where(value)
    return dims
