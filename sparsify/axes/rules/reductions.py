"""Operators that reduce dimensions, pool positions, or normalise."""

from __future__ import annotations

from typing import Any

from sparsify.axes.axis import ONE, SPACE, Axis, cut, product
from sparsify.axes.op import Dims, Op, axis_rule, fresh

SORTED = "it is sorted, or the place of its largest value is used"


def _reduced(op: Op, dims: Dims, along: Any, keep: bool) -> tuple[Dims, Dims]:
    """Return the axes that are reduced, and those of the result."""
    chosen = (
        {d % len(dims) for d in ([along] if isinstance(along, int) else along or range(len(dims)))} if dims else set()
    )
    gone = [dims[index] for index in sorted(chosen)]
    rest = [ONE if index in chosen else axis for index, axis in enumerate(dims) if keep or index not in chosen]
    return gone, rest


@axis_rule("aten::sum", "aten::count_nonzero", "aten::any", "aten::nansum")
def summed(op: Op) -> Dims:
    """Zeros add nothing."""
    value = op.arg(0)
    gone, rest = _reduced(op, op.dims(value), op.arg(1, "dim"), op.arg(2, "keepdim", False))
    op.sums(gone, value)
    op.zero_where(value)
    return rest


@axis_rule("aten::linalg_vector_norm", "aten::norm")
def vector_norm(op: Op) -> Dims:
    """(Σ|x|^p)^(1/p): zeros add nothing for p > 0."""
    value, order = op.arg(0), op.arg(1, "ord", 2)
    gone, rest = _reduced(op, op.dims(value), op.arg(2, "dim"), op.arg(3, "keepdim", False))
    if order is None or (isinstance(order, (int, float)) and order > 0):
        op.sums(gone, value)
        op.zero_where(value)
    else:
        op.counts(gone)
    return rest


@axis_rule("aten::mean", "aten::amax", "aten::amin", "aten::nanmean")
def averaged(op: Op) -> Dims:
    """A mean depends on the number of values, a maximum on whether zero is one of them."""
    value = op.arg(0)
    gone, rest = _reduced(op, op.dims(value), op.arg(1, "dim"), op.arg(2, "keepdim", False))
    op.counts(gone)
    op.zero_where(value)
    return rest


@axis_rule("aten::var", "aten::std", "aten::prod", "aten::logsumexp", "aten::all")
def spread(op: Op) -> Dims:
    """As a mean; the argument that keeps the dimension has no fixed place."""
    value, shape = op.arg(0), op.shape
    dims = op.dims(value)
    along = op.arg(1, "dim")
    gone, rest = _reduced(op, dims, None if isinstance(along, bool) else along, len(shape) == len(dims))
    op.counts(gone)
    if op.name.startswith(("var", "std")):
        _need_two(op, gone)
        op.zero_where(value)
    return rest


def _need_two(op: Op, axes: Dims) -> None:
    """One value has no deviation."""
    for axis in axes:
        op.at_least(axis, 2)


@axis_rule("aten::var_mean", "aten::std_mean")
def spread_and_mean(op: Op) -> tuple[Dims, Dims]:
    """Two results of the same form."""
    dims, shape = op.dims(op.arg(0)), op.node.meta["val"][0].shape
    along = op.arg(1, "dim")
    gone, rest = _reduced(op, dims, None if isinstance(along, bool) else along, len(shape) == len(dims))
    op.counts(gone)
    _need_two(op, gone)
    op.zero_where(op.arg(0))
    return rest, list(rest)


@axis_rule("aten::_weight_norm")
def weight_norm(op: Op) -> Dims:
    """G v / |v| with the norm over all dimensions but one; a filter of zeros has no direction."""
    value, scale, dim = op.arg(0), op.arg(1, "g"), op.arg(2, "dim", 0)
    dims = op.broadcast(value, scale)
    op.sums([axis for index, axis in enumerate(dims) if index != dim], value)
    if dim >= 0:  # -1: one length for all of it
        op.pole(value, [dims[dim]])
    op.zero_where(value)
    return dims


@axis_rule("aten::max", "aten::min", "aten::median", "aten::mode", "aten::kthvalue", "aten::cummax", "aten::cummin")
def extreme(op: Op) -> Any:
    """Of all values, elementwise of two, or along a dimension with its index."""
    value = op.arg(0)
    overload = op.name
    if overload.endswith("other"):
        op.zero_where(addends=[value, op.arg(1)])
        return op.broadcast(value, op.arg(1))
    if overload.endswith("default") and not isinstance(op.node.meta["val"], (tuple, list)):
        op.counts(op.dims(value))
        return []
    shapes = [list(result.shape) for result in op.node.meta["val"]]
    dims = op.dims(value)
    position = 2 if overload.startswith("kthvalue") else 1
    along = op.arg(position, "dim", -1)
    if len(shapes[0]) == len(dims) and shapes[0] == [axis.size for axis in dims] and dims[along].size != 1:
        op.freeze([dims[along]], SORTED)  # cummax
        return tuple(list(dims) for _ in shapes)
    gone, rest = _reduced(op, dims, along, len(shapes[0]) == len(dims))
    if any(user.args[1] == 1 for user in op.node.users if len(user.args) > 1) or overload.startswith("kthvalue"):
        op.freeze(gone, SORTED)
    op.counts(gone)
    op.zero_where(value)
    return tuple(list(rest) for _ in shapes)


@axis_rule("aten::argmax", "aten::argmin")
def place_of_extreme(op: Op) -> Dims:
    """The result is an index of the axis."""
    dims = op.dims(op.arg(0))
    gone, rest = _reduced(op, dims, op.arg(1, "dim"), op.arg(2, "keepdim", False))
    op.freeze(gone, SORTED)
    return rest


@axis_rule("aten::cumsum", "aten::cumprod", "aten::logcumsumexp")
def running(op: Op) -> Dims:
    """Along counts of indices (a histogram) the sums up to a removed index are not there any more."""
    value, dim = op.arg(0), op.arg(1, "dim")
    dims = op.dims(value)
    if dims:
        op.sums([dims[dim]], value)
        if op.name.startswith("cumsum"):
            op.counts([dims[dim]])
        else:
            op.freeze([dims[dim]], "its values are multiplied up along it")
    return dims


@axis_rule("aten::softmax", "aten::_softmax", "aten::log_softmax", "aten::_log_softmax")
def softmax(op: Op) -> Dims:
    """A masked logit of zero still has a share."""
    value, dim = op.arg(0), op.arg(1, "dim")
    dims = op.dims(value)
    op.counts([dims[dim]])
    return dims


@axis_rule("aten::glu")
def gated(op: Op) -> Dims:
    """A * sigmoid(b) of the two halves of a dimension."""
    value, dim = op.arg(0), op.arg(1, "dim", -1)
    dims = list(op.dims(value))
    first, second = cut(dims[dim], [dims[dim].size // 2] * 2)
    op.same(first, second)
    dims[dim] = first
    op.zero_where(value)
    return dims


@axis_rule("aten::batch_norm", "aten::instance_norm")
def channel_norm(op: Op) -> Dims:
    """Every channel by itself."""
    value, *state = (op.arg(index) for index in range(5))
    dims = op.dims(value)
    for tensor in state:
        if tensor is not None:
            op.broadcast_dims([[dims[1]], op.dims(tensor)])
    weight, bias, mean = state[:3]
    if op.name.startswith("instance"):
        _need_two(op, dims[2:])
    if mean is None:  # statistics of what it sees
        op.counts(dims[2:] if op.name.startswith("instance") else [dims[0], *dims[2:]])
    if op.name.startswith("instance") and mean is None:
        op.zero_where(value, weight, addends=[bias])
    elif weight is not None:
        op.zero_where(weight, addends=[bias])
    return dims


@axis_rule("aten::native_batch_norm", "aten::_native_batch_norm_legit", "aten::_native_batch_norm_legit_no_training")
def channel_norm_with_statistics(op: Op) -> tuple[Dims, ...]:
    """As above; statistics of the batch are further results."""
    return channel_norm(op), *_statistics(op)


def _statistics(op: Op) -> list[Dims]:
    _, *others = op.node.meta["val"]
    return [[fresh(size, "it is a statistic") for size in value.shape] for value in others]


@axis_rule("aten::layer_norm", "aten::rms_norm", "aten::_fused_rms_norm")
def layer_norm(op: Op) -> Dims:
    """Mean and variance over the last dimensions."""
    value, shape, weight = op.arg(0), op.arg(1), op.arg(2, "weight")
    bias = op.arg(3, "bias") if "layer_norm" in op.name else None
    dims = op.dims(value)
    normalized = dims[len(dims) - len(shape) :]
    for tensor in (weight, bias):
        if tensor is not None:
            op.broadcast_dims([normalized, op.dims(tensor)])
    op.size_at(op.place(1, "normalized_shape"), normalized)
    op.counts(normalized)
    op.zero_where(value, weight, addends=[bias])
    return dims


@axis_rule("aten::native_layer_norm")
def layer_norm_with_statistics(op: Op) -> tuple[Dims, ...]:
    """As above; mean and deviation are further results."""
    return layer_norm(op), *_statistics(op)


@axis_rule("aten::group_norm")
def group_norm(op: Op) -> Dims:
    """Mean and variance over the channels of a group and all positions."""
    return _group_norm(op, op.arg(1), 1, op.arg(2, "weight"), op.arg(3, "bias"))


@axis_rule("aten::native_group_norm")
def group_norm_with_statistics(op: Op) -> tuple[Dims, ...]:
    """As above; the number of channels is an argument too."""
    op.size_at(4, op.dims(op.arg(0))[1])
    return _group_norm(op, op.arg(6), 6, op.arg(1), op.arg(2)), *_statistics(op)


def _group_norm(op: Op, groups: int, place: int, weight: Any, bias: Any) -> Dims:
    value = op.arg(0)
    dims = op.dims(value)
    group, inner = fresh(groups), Axis(dims[1].size // groups)
    op.same(dims[1], product([group, inner]))
    for tensor in (weight, bias):
        if tensor is not None:
            op.same(op.dims(tensor)[0], dims[1])
    op.size_at(place, group)
    op.counts([*([inner] if inner.size > 1 else []), *dims[2:]])
    op.zero_where(value, weight, addends=[bias])
    return dims


@axis_rule("aten::max_pool1d", "aten::max_pool2d", "aten::max_pool3d", "aten::avg_pool1d", "aten::avg_pool2d",
           "aten::avg_pool3d", "aten::adaptive_avg_pool1d", "aten::adaptive_avg_pool2d", "aten::adaptive_avg_pool3d",
           "aten::_adaptive_avg_pool2d", "aten::_adaptive_avg_pool3d",
           "aten::upsample_nearest1d", "aten::upsample_nearest2d", "aten::upsample_nearest3d",
           "aten::upsample_bilinear2d", "aten::upsample_linear1d", "aten::upsample_trilinear3d",
           "aten::upsample_bicubic2d", "aten::_upsample_nearest_exact2d", "aten::reflection_pad1d",
           "aten::reflection_pad2d", "aten::replication_pad1d", "aten::replication_pad2d", "aten::grid_sampler",
           "aten::_upsample_bilinear2d_aa", "aten::_upsample_nearest_exact1d", "aten::reflection_pad3d",
           "aten::replication_pad3d")  # fmt: skip
def pooled(op: Op) -> Dims:
    """Every channel by itself; positions are new."""
    value = op.arg(0)
    dims, shape = op.dims(value), op.shape
    spatial = _spatial_rank(op, len(dims))
    op.freeze(dims[len(dims) - spatial :], SPACE)
    if op.name.startswith("grid"):
        op.freeze(op.dims(op.arg(1)), SPACE)
    op.zero_where(value)
    places = shape[len(dims) - spatial :]
    return [*dims[: len(dims) - spatial], *(fresh(size, SPACE) for size in places)]


@axis_rule("aten::max_pool1d_with_indices", "aten::max_pool2d_with_indices", "aten::max_pool3d_with_indices",
           "aten::adaptive_max_pool1d", "aten::adaptive_max_pool2d", "aten::adaptive_max_pool3d")  # fmt: skip
def pooled_with_indices(op: Op) -> tuple[Dims, Dims]:
    """As pooling; the indices are positions."""
    value = op.arg(0)
    dims, result = op.dims(value), op.node.meta["val"][0]
    spatial = _spatial_rank(op, len(dims))
    op.freeze(dims[len(dims) - spatial :], SPACE)
    op.zero_where(value)
    places = [fresh(size, SPACE) for size in result.shape[len(dims) - spatial :]]
    return [*dims[: len(dims) - spatial], *places], [*dims[: len(dims) - spatial], *places]


def _spatial_rank(op: Op, rank: int) -> int:
    name = op.name
    found = next((int(digit) for digit in "123" if f"{digit}d" in name), rank - 2)
    return min(found, rank - 1)
