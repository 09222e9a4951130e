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
from sparsify.program import Program

__all__ = ["Keep", "Resizing", "resized"]

Keep = Mapping[Axis, Tensor]
"""For leaves that change, a boolean tensor with an entry for each index: True is kept."""


def resized(axes: Axes, keep: Keep) -> Program:
    """Return the program with only some indices of some axes.

    The fake values of the nodes are those of the old sizes; the pass manager derives them again.

    Args:
        axes: of the program.
        keep: the leaves that change; everything that is composed of them changes with them.
    """
    resizing = Resizing(axes, keep)
    program = axes.program
    graph = program.copy_graph()
    for old, new in zip(program.graph.nodes, graph.nodes, strict=True):
        resizing.apply(old, new)
    return replace(
        program,
        graph=graph,
        parameters={name: resizing.state(name, value) for name, value in program.parameters.items()},
        buffers={name: resizing.state(name, value) for name, value in program.buffers.items()},
    )


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

    def size(self, axis: Axis) -> int:
        """Return the new size of an axis."""
        kept = self.kept(axis)
        return axis.size if kept is None else int(kept.sum())

    def old_dims(self, node: Any) -> Dims:
        """Return the axes of a node of the new graph; their sizes are the old ones."""
        if not self._by_name:
            self._by_name = {old.name: old for old in self._axes.dims}
        found: Dims = self._axes.dims[self._by_name[node.name]]
        return found

    def state(self, name: str, value: Tensor) -> Tensor:
        """Return what is left of a parameter or buffer."""
        dims: Dims = self._axes.dims[self._attributes[name]]
        result = value.detach()
        for index, axis in enumerate(dims):
            if (kept := self.kept(axis)) is not None:
                result = result.index_select(index, kept.nonzero().flatten().to(value.device))
        if result.shape == value.shape:
            return value
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


def _get(node: fx.Node, place: Place) -> Any:
    return node.args[place] if isinstance(place, int) else node.kwargs[place]


def _set(node: fx.Node, place: Place, value: Any) -> None:
    if isinstance(place, int):
        node.update_arg(place, value)
    else:
        node.update_kwarg(place, value)
