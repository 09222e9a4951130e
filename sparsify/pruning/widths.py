"""Widths: what a program costs when its groups have other sizes.

Nothing is built to answer that: the sizes of all dimensions follow from those of the groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from torch import fx

from sparsify.axes import Axes, Axis
from sparsify.axes.axis import find, leaves
from sparsify.axes.inference import leaves_of
from sparsify.cost import macs_by_node

__all__ = ["Widths"]


class Widths:
    """Counts parameters and MACs for other sizes of groups.

    Args:
        axes: of the program.
    """

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        nodes = {str(node.target): node for node in axes.dims if node.op == "get_attr"}
        self._parameters = [axes.dims[nodes[name]] for name in axes.program.parameters]

    def parameters(self, sizes: Mapping[Axis, int]) -> int:
        """Return the number of parameters.

        Args:
            sizes: of the leaves that differ from what they are in the program.
        """
        return _count(self._parameters, sizes)

    def macs(self, sizes: Mapping[Axis, int]) -> int:
        """Return the multiply-accumulates of one example, as `sparsify.cost` counts them."""
        return self._macs(sizes, None)

    def savings(self, groups: Iterable[Axis]) -> dict[Axis, tuple[int, int]]:
        """Return how many parameters and multiply-accumulates go with one index of each group; takes linear time."""
        wanted = set(groups)
        parameters: dict[Axis, list[list[Axis]]] = {leaf: [] for leaf in wanted}
        for dims in self._parameters:
            for leaf in wanted.intersection(leaves_of(dims)):
                parameters[leaf].append(dims)
        nodes: dict[Axis, list[fx.Node]] = {leaf: [] for leaf in wanted}
        having = {node: wanted.intersection(leaves_of(dims)) for node, dims in self._axes.dims.items()}
        for node, own in having.items():
            for leaf in own.union(*(having[value] for value in node.all_input_nodes)):
                nodes[leaf].append(node)
        found = {}
        for leaf in wanted:
            less = {leaf: leaf.size - 1}
            found[leaf] = (
                _count(parameters[leaf], {}) - _count(parameters[leaf], less),
                self._macs({}, nodes[leaf]) - self._macs(less, nodes[leaf]),
            )
        return found

    def _macs(self, sizes: Mapping[Axis, int], nodes: Iterable[fx.Node] | None) -> int:
        known: dict[Axis, int] = {}

        def resize(node: fx.Node, shape: tuple[int, ...]) -> tuple[int, ...]:
            dims = self._axes.dims.get(node, ())
            if isinstance(dims, tuple) or len(dims) != len(shape):
                return shape
            return tuple(
                _scaled(size, axis, sizes) if axis.dynamic else _size(axis, sizes, known)
                for size, axis in zip(shape, dims, strict=True)
            )

        return sum(macs_by_node(self._axes.program, resize, nodes).values())


def _count(parameters: Iterable[list[Axis]], sizes: Mapping[Axis, int]) -> int:
    known: dict[Axis, int] = {}
    return sum(math.prod(_size(axis, sizes, known) for axis in dims) for dims in parameters)


def _size(axis: Axis, sizes: Mapping[Axis, int], known: dict[Axis, int]) -> int:
    axis = find(axis)
    if axis not in known:
        if axis.kind == "leaf":
            known[axis] = sizes.get(axis, axis.size)
        else:
            parts = [_size(part, sizes, known) for part in axis.parts]
            known[axis] = math.prod(parts) if axis.kind == "product" else sum(parts)
    return known[axis]


def _scaled(size: int, axis: Axis, sizes: Mapping[Axis, int]) -> int:
    """Return a dynamic size (such as batch times heads) after its static factors have changed."""
    for leaf in leaves(axis):
        if leaf in sizes:
            size = size // leaf.size * sizes[leaf]
    return size
