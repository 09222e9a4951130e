"""Give axes other sizes: slice the state, and derive every size in the arguments of the graph's nodes again."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparsify.axes.axis import Axis, find, leaves
from sparsify.axes.inference import Axes
from sparsify.axes.op import Dims, Place
from sparsify.graph import copied_nodes
from sparsify.program import Program

__all__ = ["Keep", "Resizing", "resized"]

Keep = Mapping[Axis, Tensor]
"""For leaves that change, a boolean tensor with an entry for each index: True is kept."""


def resized(axes: Axes, keep: Keep, without: Mapping[fx.Node, fx.Node | None] | None = None) -> Program:
    """Return the program with only some indices of some axes.

    The fake values of the nodes are those of the old sizes; the pass manager derives them again.

    Args:
        axes: of the program.
        keep: the leaves that change; everything that is composed of them changes with them.
        without: nodes that are left out, each with the node that those who use it use instead.
    """
    resizing = Resizing(axes, keep)
    program = axes.program
    graph, nodes = copied_nodes(program.graph, without)
    for old, new in nodes.items():
        if not without or old not in without:
            resizing.apply(old, new)
    left_out = {str(node.target) for node in without or () if node.op == "get_attr"}
    parameters, buffers = (
        {name: resizing.state(name, value) for name, value in state.items() if name not in left_out}
        for state in (program.parameters, program.buffers)
    )
    return replace(program, graph=graph, parameters=parameters, buffers=buffers)


class Resizing:
    """Knows the new size of every axis.

    Attributes:
        node: the node of the new graph whose arguments are being written.
    """

    node: fx.Node

    def __init__(self, axes: Axes, keep: Keep) -> None:
        self._axes = axes
        self._keep = {find(leaf): kept for leaf, kept in keep.items()}
        self._masks: dict[Axis, Tensor | None] = {}
        self._indices: dict[Axis, Tensor] = {}
        self._attributes = {str(node.target): node for node in axes.dims if node.op == "get_attr"}
        self._by_name: dict[str, fx.Node] = {}

    def kept(self, axis: Axis) -> Tensor | None:
        """Return a boolean tensor with an entry for each index of an axis, or None if all are kept."""
        axis = find(axis)
        if axis not in self._masks:
            self._masks[axis] = self._kept(axis)
        return self._masks[axis]

    def _kept(self, axis: Axis) -> Tensor | None:
        if axis.kind == "leaf":
            return self._keep.get(axis)
        parts = [self.kept(part) for part in axis.parts]
        if all(part is None for part in parts):
            return None
        masks = [
            torch.ones(part.size, dtype=torch.bool) if kept is None else kept
            for part, kept in zip(axis.parts, parts, strict=True)
        ]
        if axis.kind == "sum":
            return torch.cat(masks)
        found = masks[0]
        for mask in masks[1:]:
            found = (found[:, None] & mask[None, :]).flatten()
        return found

    def index(self, axis: Axis) -> Tensor | None:
        """Return the indices of an axis that are kept, in order, or None if all are kept."""
        axis = find(axis)
        if axis not in self._indices and (kept := self.kept(axis)) is not None:
            self._indices[axis] = kept.nonzero().flatten()
        return self._indices.get(axis)

    def size(self, axis: Axis) -> int:
        """Return the new size of an axis."""
        index = self.index(axis)
        return axis.size if index is None else len(index)

    def old_dims(self, node: Any) -> Dims:
        """Return the axes of a node of the new graph; their sizes are the old ones."""
        if not self._by_name:
            self._by_name = {old.name: old for old in self._axes.dims}
        found: Dims = self._axes.dims[self._by_name[node.name]]
        return found

    def state(self, name: str, value: Tensor) -> Tensor:
        """Return what is left of a parameter or buffer."""
        dims: Dims = self._axes.dims[self._attributes[name]]
        chosen = {dim: index for dim, axis in enumerate(dims) if (index := self.index(axis)) is not None}
        if not chosen:
            return value
        result = value.detach()
        repeated = [dim for dim, stride in enumerate(value.stride()) if stride == 0]  # as in a mask of whole channels
        for dim in repeated:
            result = result.narrow(dim, 0, 1)
        for dim, index in chosen.items():
            if dim not in repeated:
                result = _selected(result, dim, index.to(value.device))
        if repeated:
            result = result.expand([len(chosen[dim]) if dim in chosen else n for dim, n in enumerate(value.shape)])
        return nn.Parameter(result, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else result

    def apply(self, old: fx.Node, new: fx.Node) -> None:
        """Write the new sizes into the arguments of a node."""
        facts = self._axes.facts.get(old)
        if facts is None:
            return
        self.node = new
        for place, axes in facts.sizes:
            if isinstance(axes, Axis):
                if self.kept(axes) is not None:
                    _set(new, place, self.size(axes))
            elif any(self.kept(axis) is not None for axis in axes):
                _set(new, place, self._sizes(_get(new, place), axes))
        for axes, fix in facts.fixes:
            if any(self.kept(axis) is not None for axis in axes):
                fix(self)

    def _sizes(self, old: Sequence[Any], axes: Dims) -> list[Any]:
        sizes = list(old)
        for index, axis in enumerate(axes):
            if self.kept(axis) is None or (isinstance(sizes[index], int) and sizes[index] == -1):
                continue
            sizes[index] = self._dynamic(sizes[index], axis) if axis.dynamic else self.size(axis)
        return sizes

    def _dynamic(self, size: fx.Node, axis: Axis) -> fx.Node:
        """A dynamic size is a multiple of the static factors that it holds: divide it by the old ones."""
        before = [leaf for leaf in leaves(axis) if not leaf.dynamic]
        old = new = 1
        for leaf in before:
            old, new = old * leaf.size, new * self.size(leaf)
        graph = self.node.graph
        with graph.inserting_before(self.node):
            divided = graph.call_function(operator.floordiv, (size, old))
            result = graph.call_function(operator.mul, (divided, new))
        divided.meta["val"] = size.meta["val"] // old
        result.meta["val"] = divided.meta["val"] * new
        return result


def _selected(value: Tensor, dim: int, index: Tensor) -> Tensor:
    """Return some indices of a dimension, as `index_select` does; along the last one `gather` is much faster."""
    if dim and value.shape[dim + 1 :].numel() == 1:
        shape = [*value.shape[:dim], len(index), *value.shape[dim + 1 :]]
        return value.gather(dim, index.view(-1, *value.shape[dim + 1 :]).expand(shape))
    return value.index_select(dim, index)


def _get(node: fx.Node, place: Place) -> Any:
    return node.args[place] if isinstance(place, int) else node.kwargs[place]


def _set(node: fx.Node, place: Place, value: Any) -> None:
    if isinstance(place, int):
        node.update_arg(place, value)
    else:
        node.update_kwarg(place, value)
