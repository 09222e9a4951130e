"""Shapes: what moves, stretches, joins and cuts without computing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparsify.onnx_in.graph import torch_type
from sparsify.onnx_in.op import Host, Op, onnx_rule

_LARGEST = 2**31


@onnx_rule("Shape")
def shape(op: Op) -> Host:
    """The sizes, or some of them."""
    value = op.value(0)
    sizes = list(value.array.shape if isinstance(value, Host) else value.shape)
    return Host.of(sizes[slice(op.attribute("start", 0), op.attribute("end"))])


@onnx_rule("Size")
def size(op: Op) -> Host:
    """The number of values."""
    value, found = op.value(0), 1
    for one in value.array.shape if isinstance(value, Host) else value.shape:
        found = found * one
    return Host.of(found)


@onnx_rule("Reshape")
def reshape(op: Op) -> Tensor:
    """A zero is the size that is there already."""
    x, wanted = op.tensor(0), op.numbers(1)
    if not op.attribute("allowzero", 0):
        wanted = [x.shape[i] if isinstance(n, int) and n == 0 and i < x.ndim else n for i, n in enumerate(wanted)]
    return x.reshape(wanted)


@onnx_rule("Flatten")
def flatten(op: Op) -> Tensor:
    """A matrix of the dimensions before and from the axis on."""
    x, axis = op.tensor(0), op.attribute("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 0:
        return x.reshape(1, -1)
    if axis == x.ndim:
        return x.reshape(-1, 1)
    return (x if axis == 1 else x.flatten(0, axis - 1)).flatten(1)


@onnx_rule("Transpose")
def transpose(op: Op) -> Tensor:
    """Dimensions in another order, by default the reverse."""
    x = op.tensor(0)
    return x.permute(list(op.attribute("perm", range(x.ndim - 1, -1, -1))))


@onnx_rule("Squeeze")
def squeeze(op: Op) -> Tensor:
    """Drop dimensions of size one."""
    x, axes = op.tensor(0), op.axes(1)
    if axes is None:
        axes = [dim for dim, size in enumerate(x.shape) if isinstance(size, int) and size == 1]
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.squeeze(axis)
    return x


@onnx_rule("Unsqueeze")
def unsqueeze(op: Op) -> Tensor:
    """New dimensions of size one."""
    x, axes = op.tensor(0), op.axes(1) or []
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@onnx_rule("Concat")
def concat(op: Op) -> Tensor:
    """Join along an axis."""
    return torch.cat([op.tensor(i) for i in range(len(op))], op.attribute("axis"))


@onnx_rule("Split")
def split(op: Op) -> tuple[Tensor, ...]:
    """Cut along an axis into given sizes or equal parts."""
    x, axis, count = op.tensor(0), op.attribute("axis", 0), len(op.step.outputs)
    sizes = op.attribute("split") or (op.numbers(1) if op.has(1) else None)
    if sizes is None:
        whole = int(x.shape[axis])
        part = -(-whole // int(op.attribute("num_outputs", count)))
        sizes = [min(part, max(whole - part * i, 0)) for i in range(count)]
    return tuple(torch.split(x, list(sizes), axis))


@onnx_rule("Slice")
def slice_(op: Op) -> Tensor:
    """Cut out along some axes; a step may be negative."""
    x, starts, ends = op.tensor(0), op.numbers(1), op.numbers(2)
    axes = op.numbers(3) if op.has(3) else list(range(len(starts)))
    steps = op.numbers(4) if op.has(4) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        dim = int(axis) % x.ndim
        if step > 0:
            x = x[(*[slice(None)] * dim, slice(start, end, int(step)))]
        else:
            places = list(range(*slice(start, _end(end, x.shape[dim]), int(step)).indices(int(x.shape[dim]))))
            x = x.index_select(dim, torch.tensor(places, dtype=torch.int64, device=x.device))
    return x


def _end(end: Any, size: Any) -> Any:
    """Return the end of a slice that goes backwards: one before the first place is no number in Python."""
    return None if end < -size else end


@onnx_rule("Expand")
def expand(op: Op) -> Tensor:
    """Stretch dimensions of size one, and add dimensions at the front."""
    x, wanted = op.tensor(0), op.numbers(1)
    sizes: list[Any] = [1] * (len(wanted) - x.ndim) + list(x.shape)
    wanted = [1] * (len(sizes) - len(wanted)) + wanted
    return x.expand([size if _is_one(other) else other if _is_one(size) else size
                     for size, other in zip(sizes, wanted, strict=True)])  # fmt: skip


def _is_one(size: Any) -> bool:
    return isinstance(size, int) and size == 1


@onnx_rule("Tile")
def tile(op: Op) -> Tensor:
    """Repeat along every dimension."""
    return op.tensor(0).repeat(op.numbers(1))


@onnx_rule("Pad")
def pad(op: Op) -> Tensor:
    """Add values at both ends: constant, reflected, the last one, or the other end's."""
    x, given, value = op.tensor(0), op.numbers(1), 0.0
    if op.has(2):
        value = op.number(2)
    axes = [int(axis) % x.ndim for axis in op.numbers(3)] if op.has(3) else list(range(x.ndim))
    begin, end = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(axes):
        begin[axis], end[axis] = given[place], given[place + len(axes)]
    sides = [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}.get(
        op.attribute("mode", "constant")
    )
    if mode == "constant":
        while len(sides) > 2 and sides[-2:] == [0, 0]:
            sides = sides[:-2]
        return F.pad(x, sides, value=value)
    spatial = 2 * (x.ndim - 2)
    if mode is None or any(sides[spatial:]) or spatial not in (2, 4, 6):
        raise op.refused(f"padding in the mode {op.attribute('mode')!r} is for one to three dimensions behind channels")
    return F.pad(x, sides[:spatial], mode)


@onnx_rule("DepthToSpace")
def depth_to_space(op: Op) -> Tensor:
    """Channels become blocks of pixels, by columns first (CRD, as in PyTorch) or by depth first (DCR)."""
    x, block = op.tensor(0), int(op.attribute("blocksize"))
    if op.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    b, c, h, w = x.shape
    parts = x.reshape(b, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(b, c // block**2, h * block, w * block)


@onnx_rule("SpaceToDepth")
def space_to_depth(op: Op) -> Tensor:
    """Blocks of pixels become channels."""
    x, block = op.tensor(0), int(op.attribute("blocksize"))
    b, c, h, w = x.shape
    parts = x.reshape(b, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(b, c * block**2, h // block, w // block)


@onnx_rule("ConstantOfShape")
def constant_of_shape(op: Op) -> Tensor:
    """One value everywhere."""
    value = op.attribute("value", np.zeros(1, np.float32)).reshape(-1)
    dtype = getattr(torch, str(value.dtype))
    return torch.full([_bounded(op, n) for n in op.numbers(0)], value[0].item(), dtype=dtype, device=op.device)


@onnx_rule("Range")
def range_(op: Op) -> Tensor:
    """Numbers from a start to before an end."""
    start, end, step = (op.number(i) for i in range(3))
    return torch.arange(start, end, step, dtype=op.value(0).dtype, device=op.device)


@onnx_rule("EyeLike")
def eye_like(op: Op) -> Tensor:
    """Ones on a diagonal."""
    x, k = op.tensor(0), op.attribute("k", 0)
    number = op.attribute("dtype")
    dtype = x.dtype if number is None else torch_type(number, "the result of EyeLike")
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape)
    found: Tensor = columns[None, :] - rows[:, None] == k
    return found.to(dtype)


@onnx_rule("Trilu")
def trilu(op: Op) -> Tensor:
    """The upper or lower triangle."""
    k = int(op.number(1)) if op.has(1) else 0
    return torch.triu(op.tensor(0), k) if op.attribute("upper", 1) else torch.tril(op.tensor(0), k)


def _bounded(op: Op, size: Any) -> Any:
    if isinstance(size, int) and not 0 <= size <= _LARGEST:
        raise op.refused(f"it makes {size} values along a dimension")
    return size
