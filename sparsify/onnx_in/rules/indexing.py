"""Indexing: what takes values from places, and puts them there."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsify.onnx_in.op import Host, Op, onnx_rule

_SCATTER = {"mul": "prod", "max": "amax", "min": "amin", "add": "sum"}


def _long(index: Tensor) -> Tensor:
    return index if index.dtype == torch.int64 else index.to(torch.int64)


def _places(op: Op, index: int, size: Any) -> Tensor:
    """Return indices as int64, counted from the front."""
    value = op.value(index)
    found = _long(op.tensor(index))
    if isinstance(value, Host) and not value.symbolic and (value.array >= 0).all():
        return found
    return torch.where(found < 0, found + size, found)


@onnx_rule("Gather")
def gather(op: Op) -> Tensor:
    """Take whole slices along an axis; of a table of floats it is an embedding."""
    x, axis, index = op.tensor(0), op.attribute("axis", 0), op.value(1)
    axis = axis % x.ndim
    if isinstance(index, Host) and index.array.ndim == 0:
        return x.select(axis, index.array.item())
    if axis == 0 and x.ndim == 2 and x.is_floating_point() and isinstance(op.value(0), torch.nn.Parameter):
        return F.embedding(_long(op.tensor(1)), x)
    places = _places(op, 1, x.shape[axis])
    if places.ndim == 1:
        return x.index_select(axis, places)
    taken = x.index_select(axis, places.reshape(-1))
    return taken.reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])


@onnx_rule("GatherElements")
def gather_elements(op: Op) -> Tensor:
    """Take single values along an axis."""
    x, axis = op.tensor(0), op.attribute("axis", 0)
    return torch.gather(x, axis, _places(op, 1, x.shape[axis]))


@onnx_rule("GatherND")
def gather_nd(op: Op) -> Tensor:
    """Take slices at places that are given by several indices."""
    x, index, shared = op.tensor(0), _long(op.tensor(1)), op.attribute("batch_dims", 0)
    parts: list[Tensor] = []
    for dim in range(shared):
        sizes = [1] * (index.ndim - 1)
        sizes[dim] = -1
        parts.append(torch.arange(x.shape[dim], device=x.device).reshape(sizes))
    return x[(*parts, *index.unbind(-1))]


@onnx_rule("ScatterND")
def scatter_nd(op: Op) -> Tensor:
    """Put slices at places that are given by several indices."""
    reduction = op.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise op.refused(f"it combines values by {reduction!r}; sparsify reads none and add")
    places = _long(op.tensor(1)).unbind(-1)
    return op.tensor(0).index_put(places, op.tensor(2), accumulate=reduction == "add")


@onnx_rule("ScatterElements")
def scatter_elements(op: Op) -> Tensor:
    """Put single values along an axis."""
    x, axis, reduction = op.tensor(0), op.attribute("axis", 0), op.attribute("reduction", "none")
    places = _places(op, 1, x.shape[axis])
    if reduction == "none":
        return torch.scatter(x, axis, places, op.tensor(2))
    if reduction not in _SCATTER:
        raise op.refused(f"it combines values by {reduction!r}")
    return torch.scatter_reduce(x, axis, places, op.tensor(2), _SCATTER[reduction])


@onnx_rule("OneHot")
def one_hot(op: Op) -> Tensor:
    """One value at an index along a new axis, another elsewhere."""
    depth, values = int(op.number(1)), op.tensor(2)
    places, axis = _long(op.tensor(0)), op.attribute("axis", -1)
    places = torch.where(places < 0, places + depth, places).unsqueeze(axis)
    sizes = [1] * places.ndim
    sizes[axis] = depth
    found = torch.arange(depth, device=places.device).reshape(sizes) == places
    return torch.where(found, values[1], values[0])
