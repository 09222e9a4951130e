"""Operators that regroup or reorder dimensions, or repeat what is in them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import SymInt

from sparsify.axes.axis import ONE, SPACE, UNALIGNED, Axis, factors, find, freeze_all, product, split_off
from sparsify.axes.op import Dims, Op, axis_rule, fresh


@axis_rule("aten::view", "aten::reshape", "aten::_unsafe_view", "aten::view_as", "aten::flatten", "aten::ravel",
           "aten::unflatten", "aten::squeeze", "aten::reshape_as")  # fmt: skip
def view(op: Op) -> Dims:
    """Keep the order of all elements: the factors of the dimensions are grouped anew."""
    value, name = op.arg(0), op.name
    result = regrouped(op.dims(value), op.shape)
    op.zero_where(value)
    op.facts.content = op.content(value)
    if name.startswith(("view.default", "reshape.", "_unsafe_view.")):
        op.size_at(1, result)
    elif name.startswith("unflatten."):
        first = op.arg(1) % len(op.dims(value))
        op.size_at(2, result[first : first + len(op.arg(2))])
    elif name.startswith(("view_as", "reshape_as")):
        op.freeze([*result, *op.dims(op.arg(1))], "it takes the shape of another value")
    elif name.startswith("squeeze."):
        _stay_wide(op, op.dims(value), op.arg(1, "dim"))
    return result


def _stay_wide(op: Op, dims: Dims, chosen: int | Sequence[int] | None) -> None:
    """A dimension that has one index left would be squeezed too."""
    chosen = range(len(dims)) if chosen is None else [chosen] if isinstance(chosen, int) else chosen
    for axis in (dims[index] for index in chosen if dims):
        if axis.size > 1:
            op.at_least(axis, 2)


def regrouped(dims: Dims, shape: Sequence[int | SymInt]) -> Dims:
    """Group the factors of dimensions into dimensions of other sizes; freeze them where that cannot be done."""
    wanted = [fresh(size) for size in shape]
    start = 0
    while start < min(len(dims), len(wanted)) and _alike(dims[start], wanted[start]):
        start += 1
    pool = [factor for axis in dims[start:] for factor in factors(axis)]
    found: Dims = []
    for target in reversed(wanted[start:]):
        taken = _taken(pool, target)
        if taken is None:
            freeze_all([*pool, *found], UNALIGNED)
            found = []
            pool = []
            break
        found.append(taken)
    else:
        if not pool:
            return [*dims[:start], *reversed(found)]
    freeze_all([*pool, *found, *dims[start:]], UNALIGNED)
    return [*dims[:start], *(fresh(size, UNALIGNED) for size in shape[start:])]


def _alike(axis: Axis, other: Axis) -> bool:
    return axis.size == other.size and axis.dynamic == other.dynamic


def _taken(pool: list[Axis], target: Axis) -> Axis | None:
    """Take factors from the end of `pool` that make up a dimension like `target`."""
    taken: list[Axis] = []
    rest = target.size
    while rest > 1 or (target.dynamic and not any(axis.dynamic for axis in taken)):
        if not pool or rest == 0:
            return None
        last = pool.pop()
        if find(last).kind == "product":  # refined since
            pool.extend(factors(last))
        elif last.size <= rest and rest % last.size == 0:
            taken.append(last)
            rest //= last.size
        elif last.size > rest and (parts := split_off(last, rest)) is not None:
            pool.extend(parts)
        else:
            freeze_all([last, *taken], UNALIGNED)
            return None
    if target.dynamic != any(axis.dynamic for axis in taken):
        freeze_all(taken, UNALIGNED)
        return None
    return product(taken[::-1])


@axis_rule("aten::permute", "aten::numpy_T", "aten::t", "aten::transpose", "aten::swapaxes", "aten::swapdims",
           "aten::movedim", "aten::moveaxis", "aten::mT", "aten::adjoint")  # fmt: skip
def permuted(op: Op) -> Dims:
    """The dimensions in another order."""
    value = op.arg(0)
    order = _order(op, len(op.dims(value)))
    op.zero_where(value)
    op.facts.content = op.content(value)
    return [op.dims(value)[index] for index in order]


def _order(op: Op, rank: int) -> list[int]:
    name = op.name.partition(".")[0]
    order = list(range(rank))
    if name == "permute":
        return [index % rank for index in op.arg(1)]
    if name in ("movedim", "moveaxis"):
        sources, targets = ([a] if isinstance(a, int) else list(a) for a in (op.arg(1), op.arg(2)))
        moved = {target % rank: source % rank for source, target in zip(sources, targets, strict=True)}
        others = iter(index for index in order if index not in moved.values())
        return [moved[index] if index in moved else next(others) for index in order]
    if name == "numpy_T":
        return order[::-1]
    first, second = (-2, -1) if name in ("t", "mT", "adjoint") else (op.arg(1), op.arg(2))
    if rank > 1:
        order[first], order[second] = order[second], order[first]
    return order


@axis_rule("aten::unsqueeze")
def unsqueezed(op: Op) -> Dims:
    """A new dimension of size one."""
    value = op.arg(0)
    dims = list(op.dims(value))
    dims.insert(op.arg(1, "dim") % (len(dims) + 1), ONE)
    op.zero_where(value)
    op.facts.content = op.content(value)
    return dims


@axis_rule("aten::expand", "aten::expand_as", "aten::broadcast_to")
def expanded(op: Op) -> Dims:
    """A dimension of size one is repeated: a new axis that whoever meets it decides on."""
    value, shape = op.arg(0), op.shape
    dims = [ONE] * (len(shape) - len(op.dims(value))) + op.dims(value)
    result = [
        fresh(size) if find(axis) is ONE and not (type(size) is int and size == 1) else axis
        for axis, size in zip(dims, shape, strict=True)
    ]
    op.zero_where(value)
    op.facts.content = op.content(value)
    if op.name.startswith("expand_as"):
        return op.broadcast_dims([result, op.dims(op.arg(1))])
    op.size_at(1, result)
    op.role("repeated", *(new for new, axis in zip(result, dims, strict=True) if new is not axis))
    return result


@axis_rule("aten::repeat", "aten::tile")
def repeated(op: Op) -> Dims:
    """Copies one behind the other: index = copy x size + old index."""
    value, times = op.arg(0), list(op.arg(1))
    dims = [ONE] * (len(times) - len(op.dims(value))) + op.dims(value)
    copies = [fresh(count if isinstance(count, int) else count.meta["val"]) for count in times]
    op.role("repeated", *copies)
    op.size_at(1, copies)
    op.zero_where(value)
    copies = [ONE] * (len(dims) - len(copies)) + copies  # `tile` may be given fewer than there are dimensions
    return [axis if copy is ONE else product([copy, axis]) for copy, axis in zip(copies, dims, strict=True)]


@axis_rule("aten::repeat_interleave")
def interleaved(op: Op) -> Dims:
    """Every index is repeated in place: index = old index x copies + copy."""
    value, count, dim = op.arg(0), op.arg(1, "repeats"), op.arg(2, "dim")
    if not isinstance(count, int) or dim is None:
        op.freeze(op.dims(value), "its indices are repeated by data")
        return op.fixed("its indices are repeated by data")
    dims = list(op.dims(value))
    copy = fresh(count)
    op.role("repeated", copy)
    dims[dim] = product([dims[dim], copy])
    op.size_at(op.place(1, "repeats"), copy)
    if isinstance(op.node.kwargs.get("output_size"), int):
        op.size_at("output_size", dims[dim])
    op.zero_where(value)
    return dims


@axis_rule("aten::pixel_shuffle", "aten::pixel_unshuffle", "aten::channel_shuffle")
def shuffled(op: Op) -> Dims:
    """Channels c x r x r become c at r times as many places, and back; or groups x n become n x groups."""
    value, factor = op.arg(0), op.arg(1)
    name = op.name
    op.zero_where(value)
    if name.startswith("channel"):
        first, channel, *places = op.dims(value)
        group, inner = fresh(factor), fresh(channel.size // factor)
        op.same(channel, product([group, inner]))
        op.size_at(1, group)
        return [first, product([inner, group]), *places]
    *batch, channel, height, width = op.dims(value)
    square = Axis(factor * factor, SPACE)
    op.freeze([height, width], SPACE)
    places = [fresh(size, SPACE) for size in op.shape[-2:]]
    if name.startswith("pixel_un"):
        return [*batch, product([channel, square]), *places]
    inner = fresh(channel.size // square.size)
    op.same(channel, product([inner, square]))
    return [*batch, inner, *places]


@axis_rule("aten::view_as_complex", "aten::view_as_real")
def complex_pairs(op: Op) -> Dims:
    """The last dimension of a complex number as reals is its two parts."""
    value = op.arg(0)
    dims = op.dims(value)
    op.zero_where(value)
    if op.name.startswith("view_as_real"):
        return [*dims, Axis(2, "it is a real or an imaginary part")]
    op.freeze(dims[-1:], "it is a real or an imaginary part")
    return dims[:-1]
