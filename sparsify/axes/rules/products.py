"""Sums of products: linear layers, convolutions, matrix products, attention, einsum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sparsify.axes.axis import ONE, SPACE, Axis, product
from sparsify.axes.op import Dims, Op, axis_rule, fresh

if TYPE_CHECKING:
    from sparsify.axes.resize import Resizing

KERNEL = "it is a convolution's kernel"
STORED = "a sparse format stores it"


@axis_rule("aten::linear")
def linear(op: Op) -> Dims:
    """X W' + b."""
    x, weight, bias = op.arg(0), op.arg(1, "weight"), op.arg(2, "bias")
    dims, (*outer, inner) = op.dims(x), op.dims(weight)
    op.same(inner, dims[-1])
    op.sums([inner], x, weight)
    op.zero_where(x, weight, addends=[bias])
    op.role("made", *outer)
    if bias is not None:
        op.broadcast_dims([outer, op.dims(bias)])
    return [*dims[:-1], *outer]


@axis_rule("sparsify::index_linear", "sparsify::bitmask_linear", "sparsify::nm_linear", "sparsify::block_linear")
def sparse_linear(op: Op) -> Dims:
    """X W' + b, where W is stored in a format; that says of every value where it is, so nothing of it can go."""
    x, *stored = op.node.all_input_nodes
    dims = op.dims(x)
    for axes in (dims[-1:], *map(op.dims, stored)):
        op.freeze(axes, STORED)
    return [*dims[:-1], fresh(op.shape[-1], STORED)]


@axis_rule("aten::addmm", "aten::addmv", "aten::baddbmm")
def added_product(op: Op) -> Dims:
    """B + x W."""
    bias, x, weight = op.arg(0), op.arg(1), op.arg(2)
    result = _product(op, x, weight)
    op.role("made", result[-1])
    op.zero_where(x, weight, addends=[bias])
    return op.broadcast_dims([result, op.dims(bias)])


@axis_rule("aten::matmul", "aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::vdot")
def matmul(op: Op) -> Dims:
    """The last dimension of the first is summed over with the last but one of the second, or its only one."""
    op.zero_where(op.arg(0), op.arg(1))
    return _product(op, op.arg(0), op.arg(1))


def _product(op: Op, x: Any, y: Any) -> Dims:
    left, right = op.dims(x), op.dims(y)
    inner = right[-2] if len(right) > 1 else right[0]
    op.same(left[-1], inner)
    op.sums([inner], x, y)
    batch = op.broadcast_dims([left[:-2], right[:-2]]) if len(left) > 2 or len(right) > 2 else []
    if len(left) > 3 and len(left) == len(right) and "get_attr" not in (x.op, y.op):
        op.role("heads", *batch)
        op.role("head-dim", left[-1], right[-1])
    return [*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else [])]


@axis_rule("aten::conv1d", "aten::conv2d", "aten::conv3d")
def convolution(op: Op) -> Dims:
    """Weight [out, in / groups, kernel]: the channels of both sides are groups x channels of one group."""
    return _convolution(op, op.arg(6, "groups", 1), op.place(6, "groups"))


@axis_rule("aten::convolution")
def general_convolution(op: Op) -> Dims:
    """As conv2d and conv_transpose2d, chosen by an argument."""
    return (_transposed if op.arg(6) else _convolution)(op, op.arg(8), 8)


@axis_rule("aten::conv_transpose1d", "aten::conv_transpose2d", "aten::conv_transpose3d")
def transposed_convolution(op: Op) -> Dims:
    """Weight [in, out / groups, kernel]."""
    return _transposed(op, op.arg(6, "groups", 1), op.place(6, "groups"))


def _convolution(op: Op, groups: int, place: Any) -> Dims:
    x, weight, bias = op.arg(0), op.arg(1), op.arg(2)
    dims, (out, inner, *kernel) = op.dims(x), op.dims(weight)
    channel = len(dims) - len(kernel) - 1
    op.freeze(kernel, KERNEL)
    if groups > 1:
        group = Axis(groups)
        op.same(dims[channel], product([group, inner]))
        op.same(out, product([group, Axis(out.size // groups)]))
        op.size_at(place, group)
        if inner is not ONE:
            op.role("conv-groups", group)
    else:
        op.same(dims[channel], inner)
    op.role("made", out)
    op.sums([inner], x, weight)
    op.zero_where(*(() if groups == 1 else (x,)), weight, addends=[bias])
    if bias is not None:
        op.same(op.dims(bias)[0], out)
    return [*dims[:channel], out, *_space(op, dims[channel + 1 :], kernel)]


def _transposed(op: Op, groups: int, place: Any) -> Dims:
    x, weight, bias = op.arg(0), op.arg(1), op.arg(2)
    dims, (inner, out, *kernel) = op.dims(x), op.dims(weight)
    channel = len(dims) - len(kernel) - 1
    op.freeze(kernel, KERNEL)
    op.same(dims[channel], inner)
    summed = inner
    if groups > 1:
        group, summed = Axis(groups), Axis(inner.size // groups)
        op.same(inner, product([group, summed]))
        out = product([group, out])
        op.size_at(place, group)
        if summed.size > 1:
            op.role("conv-groups", group)
    op.role("made", out)
    op.sums([summed], x, weight)
    op.zero_where(*(() if groups == 1 else (x,)), weight, addends=[bias])
    if bias is not None:
        op.same(op.dims(bias)[0], out)
    return [*dims[:channel], out, *_space(op, dims[channel + 1 :], kernel)]


def _space(op: Op, before: Dims, kernel: Dims) -> Dims:
    """Positions stay what they are under a 1x1 kernel that does not move them."""
    shape, stride = op.shape[len(op.shape) - len(kernel) :], op.arg(3, "stride", 1)
    moves = any(step != 1 for step in ([stride] if isinstance(stride, int) else stride))
    if not moves and all(a is ONE for a in kernel) and [a.size for a in before] == [fresh(size).size for size in shape]:
        return before
    op.freeze(before, SPACE)
    return [fresh(size, SPACE) for size in shape]


@axis_rule("aten::scaled_dot_product_attention")
def attention(op: Op) -> Dims:
    """softmax(q k' / sqrt(d)) v; the scale is written down before d changes."""
    query, key, value, mask = (op.arg(i, name) for i, name in enumerate(("query", "key", "value", "attn_mask")))
    q, k, v = op.dims(query), op.dims(key), op.dims(value)
    op.same(q[-1], k[-1])
    op.same(k[-2], v[-2])
    op.sums([q[-1]], query, key)
    op.counts([k[-2]])
    op.fix([q[-1]], _write_scale)
    heads = [q[:-2], k[:-2], v[:-2]]
    if op.node.kwargs.get("enable_gqa") and q[-3].size != k[-3].size:
        op.same(k[-3], v[-3])
        copies = Axis(q[-3].size // k[-3].size)
        op.same(q[-3], product([k[-3], copies]))
        op.role("repeated", copies)
        heads = [q[:-2], q[:-2]]
    batch = op.broadcast_dims(heads)
    op.role("heads", *batch)
    op.role("head-dim", q[-1], v[-1])
    if mask is not None:
        op.broadcast_dims([[*batch, q[-2], k[-2]], op.dims(mask)])
    if op.arg(5, "is_causal", False):
        op.freeze([q[-2], k[-2]], "a diagonal runs through it")
    op.zero_where(value)
    return [*batch, q[-2], v[-1]]


def _write_scale(resizing: Resizing) -> None:
    node = resizing.node
    if node.kwargs.get("scale") is None:
        query = resizing.old_dims(node.args[0])
        node.kwargs = {**node.kwargs, "scale": 1 / math.sqrt(query[-1].size)}


@axis_rule("aten::einsum")
def einsum(op: Op) -> Dims:
    """Dimensions with one letter are the same; letters that the result lacks are summed over."""
    equation, operands = str(op.arg(0)).replace(" ", ""), list(op.arg(1))
    terms, arrow, result = equation.partition("->")
    inputs = [_lettered(term, len(op.dims(value))) for term, value in zip(terms.split(","), operands, strict=True)]
    axes: dict[str, Axis] = {}
    for letters, value in zip(inputs, operands, strict=True):
        for letter, axis in zip(letters, op.dims(value), strict=True):
            if axes.setdefault(letter, axis) is ONE:
                axes[letter] = axis
            elif axis is not ONE:
                op.same(axes[letter], axis)
    every = [letter for letters in inputs for letter in letters]
    dots = sorted({letter for letter in every if isinstance(letter, int)}, reverse=True)
    if arrow:
        head, ellipsis, tail = result.partition("...")
        output = [*head, *(dots if ellipsis else []), *tail]
    else:
        output = [*dots, *sorted({letter for letter in every if every.count(letter) == 1} - set(dots), key=str)]
    for letter, axis in axes.items():
        if letter not in output:
            op.sums([axis], *(value for value, letters in zip(operands, inputs, strict=True) if letter in letters))
    op.zero_where(*operands)
    return [axes[letter] for letter in output]


def _lettered(term: str, rank: int) -> list[Any]:
    """Return a letter for each dimension; those of the ellipsis are numbers that count from its end."""
    head, dots, tail = term.partition("...")
    return [*head, *(range(rank - len(head) - len(tail) - 1, -1, -1) if dots else []), *tail]


@axis_rule("aten::bilinear")
def bilinear(op: Op) -> Dims:
    """x1' W x2 + b with the weight [out, in1, in2]."""
    one, two, weight, bias = (op.arg(i) for i in range(4))
    out, first, second = op.dims(weight)
    op.same(op.dims(one)[-1], first)
    op.same(op.dims(two)[-1], second)
    batch = op.broadcast_dims([op.dims(one)[:-1], op.dims(two)[:-1]])
    op.sums([first], one, weight)
    op.sums([second], two, weight)
    op.zero_where(weight, addends=[bias])
    if bias is not None:
        op.same(op.dims(bias)[0], out)
    return [*batch, out]


@axis_rule("aten::_grouped_mm", "transformers::grouped_mm_fallback")
def grouped_product(op: Op) -> Dims:
    """Rows of x [rows, k], in runs that end at `offs` [groups], times the weights [groups, k, n]."""
    x, weight, ends = op.arg(0), op.arg(1), op.arg(2, "offs")
    if len(op.dims(x)) != 2 or len(op.dims(weight)) != 3 or ends is None:
        op.freeze([*op.dims(x), *op.dims(weight)], "it is in a grouped product of this form")
        return op.fixed("it is made by a grouped product of this form")
    (rows, inner), (group, summed, out) = op.dims(x), op.dims(weight)
    op.same(inner, summed)
    op.same(op.dims(ends)[0], group)
    op.sums([summed], x, weight)
    op.counts([group])
    op.role("experts", group)
    op.role("made", out)
    op.zero_where(weight)
    return [rows, out]
