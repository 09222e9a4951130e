"""Operators that look up by index, order by value, or produce indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from sparsify.axes.axis import ONE, Axis
from sparsify.axes.op import Dims, Op, axis_rule, fresh

if TYPE_CHECKING:
    from sparsify.axes.resize import Resizing

LOOKED_UP = "its indices come from data"


def _look_up(op: Op, axis: Axis, index: Any) -> None:
    """Freeze an axis that is indexed, unless its own indices are used."""
    content = op.content(index)
    if content is not None:
        op.same(axis, content)
    else:
        op.freeze([axis], LOOKED_UP)


@axis_rule("aten::embedding")
def embedding(op: Op) -> Dims:
    """Rows of a table."""
    table, index = op.arg(0), op.arg(1, "indices")
    rows, width = op.dims(table)
    _look_up(op, rows, index)
    op.role("made", width)
    op.zero_where(table)
    return [*op.dims(index), width]


@axis_rule("aten::embedding_bag")
def embedding_bag(op: Op) -> Any:
    """Sums or means of rows of a table."""
    rows, width = op.dims(op.arg(0))
    op.freeze([rows, *(axis for value in op.node.all_input_nodes[1:] for axis in op.dims(value))], LOOKED_UP)
    op.zero_where(op.arg(0))
    results = op.node.meta["val"]
    return tuple(
        [*(fresh(size, LOOKED_UP) for size in result.shape[:-1]), width] if index == 0
        else [fresh(size, LOOKED_UP) for size in result.shape]
        for index, result in enumerate(results)
    )  # fmt: skip


@axis_rule("aten::index")
def indexed(op: Op) -> Dims:
    """x[:, i, j]: the indexed dimensions make way for those of the indices."""
    value, indices = op.arg(0), list(op.arg(1))
    dims = op.dims(value)
    used = [position for position, index in enumerate(indices) if index is not None]
    if any(_is_boolean(indices[position]) for position in used):
        op.freeze(dims, LOOKED_UP)
        for position in used:
            op.freeze(op.dims(indices[position]), LOOKED_UP)
        return op.fixed(LOOKED_UP)
    for position in used:
        _look_up(op, dims[position], indices[position])
    op.zero_where(value)
    picked = op.broadcast(*(indices[position] for position in used))
    rest = [axis for position, axis in enumerate(dims) if position not in used]
    together = used == list(range(used[0], used[-1] + 1))
    start = used[0] if together else 0
    return [*rest[:start], *picked, *rest[start:]]


def _is_boolean(index: fx.Node) -> bool:
    value: Tensor = index.meta["val"]
    return not value.dtype.is_floating_point and value.dtype.itemsize == 1


@axis_rule("aten::index_select")
def index_select(op: Op) -> Dims:
    """Indices of one dimension."""
    value, dim, index = op.arg(0), op.arg(1, "dim"), op.arg(2, "index")
    dims = list(op.dims(value))
    _look_up(op, dims[dim], index)
    op.zero_where(value)
    dims[dim] = op.dims(index)[0] if op.dims(index) else ONE
    return dims


@axis_rule("aten::gather")
def gathered(op: Op) -> Dims:
    """One index of a dimension for every place of the result."""
    value, dim, index = op.arg(0), op.arg(1, "dim"), op.arg(2, "index")
    dims, places = op.dims(value), op.dims(index)
    _look_up(op, dims[dim], index)
    dim %= len(dims)
    for position, (axis, place) in enumerate(zip(dims, places, strict=True)):
        if position != dim:
            op.same(axis, place)
    return list(places)


@axis_rule("aten::take_along_dim")
def taken(op: Op) -> Dims:
    """As above; the other dimensions are broadcast."""
    value, index, dim = op.arg(0), op.arg(1, "indices"), op.arg(2, "dim")
    dims, places = list(op.dims(value)), list(op.dims(index))
    if dim is None:
        op.freeze([*dims, *places], LOOKED_UP)
        return op.fixed(LOOKED_UP)
    _look_up(op, dims[dim], index)
    dims[dim], picked = ONE, places[dim]
    places[dim] = ONE
    result = op.broadcast_dims([dims, places])
    result[dim] = picked
    return result


@axis_rule("aten::topk", "aten::sort", "aten::argsort")
def ordered(op: Op) -> Any:
    """The largest values along a dimension, and their indices."""
    value = op.arg(0)
    dims = list(op.dims(value))
    name = op.name
    if name.startswith("topk"):
        count, dim = op.arg(1, "k"), op.arg(2, "dim", -1)
        axis = dims[dim]
        dims[dim] = (
            fresh(count, "it is a number of largest values")
            if isinstance(count, int)
            else fresh(op.node.meta["val"][0].shape[dim])
        )
        op.counts([axis])
        op.role("experts", axis)
        op.at_least(axis, dims[dim].size)
        op.facts.content = {1: axis}
        return dims, list(dims)
    if dims:
        dim = op.arg(1, "dim", -1)
        op.freeze([dims[dim if isinstance(dim, int) else -1]], "it is sorted")
    return dims if name.startswith("argsort") else _with_content_of_values(op, value, dims)


def _with_content_of_values(op: Op, value: Any, dims: Dims) -> Any:
    """Sorted indices are still indices of the same axis."""
    content = op.content(value)
    if content is not None:
        op.facts.content = {0: content}
    return dims, list(dims)


@axis_rule("aten::histc")
def histogram(op: Op) -> Dims:
    """How often each index occurs; one bin for each index of the axis that the values are indices of."""
    value, bins, low, high = op.arg(0), op.arg(1, "bins", 100), op.arg(2, "min", 0), op.arg(3, "max", 0)
    content = op.content(value)
    if content is None or not (bins == content.size and low == 0 and high == bins - 1):
        op.freeze([*op.dims(value), *([content] if content else [])], "it is counted")
        return op.fixed("it is a number of bins")
    op.size_at(1, content)
    op.fix([content], _write_last)
    return [content]


def _write_last(resizing: Resizing) -> None:
    node = resizing.node
    node.update_arg(3, node.args[1] - 1)  # type: ignore[operator]


@axis_rule("aten::one_hot")
def one_hot(op: Op) -> Dims:
    """A new dimension with one entry for each index."""
    value, classes = op.arg(0), op.arg(1, "num_classes", -1)
    content = op.content(value)
    if content is None or classes != content.size:
        op.freeze([content] if content else [], "its indices are used as classes")
        return [*op.dims(value), fresh(op.shape[-1], "it is a number of classes")]
    op.size_at(op.place(1, "num_classes"), content)
    return [*op.dims(value), content]


@axis_rule("aten::index_put", "aten::index_fill", "aten::index_add", "aten::index_copy", "aten::scatter",
           "aten::scatter_add", "aten::scatter_reduce", "aten::masked_scatter", "aten::slice_scatter",
           "aten::select_scatter", "aten::put")  # fmt: skip
def written(op: Op) -> Dims:
    """A copy with other values at some places: all dimensions stay, whoever they belong to."""
    for value in op.node.all_input_nodes:
        op.freeze(op.dims(value), "its places are written by index")
    return op.dims(op.arg(0))


@axis_rule("aten::tril", "aten::triu")
def triangle(op: Op) -> Dims:
    """Zero above or below the diagonal."""
    value = op.arg(0)
    dims = op.dims(value)
    op.freeze(dims[-2:], "a diagonal runs through it")
    op.zero_where(value)
    return dims


@axis_rule("aten::diff")
def differences(op: Op) -> Dims:
    """Of neighbours along a dimension."""
    value, dim = op.arg(0), op.arg(2, "dim", -1)
    for part in (value, op.arg(3, "prepend"), op.arg(4, "append")):
        op.freeze(op.dims(part)[dim:][:1], "neighbours along it are compared")
        for index, (axis, same) in enumerate(zip(op.dims(value), op.dims(part), strict=False)):
            if index != dim % len(op.dims(value)):
                op.same(axis, same)
    return [
        axis if axis.size == fresh(size).size else fresh(size, "it is between neighbours")
        for axis, size in zip(op.dims(value), op.shape, strict=True)
    ]
