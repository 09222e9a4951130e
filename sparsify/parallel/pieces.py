"""Pieces: a graph cut into parts that run one behind the other, so that each part's weights are whole only in turn."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import getitem

from torch import fx

from sparsify import aliasing
from sparsify.graph import state_only

__all__ = ["Pieces", "cut", "places"]


@dataclass(frozen=True)
class Pieces:
    """A graph that calls its pieces.

    Attributes:
        root: calls the pieces by `call_module`, under the name `pieces.N`.
        graphs: of the pieces; what comes from elsewhere is an input, and the output is a tuple.
        state: the names of the parameters and buffers that each piece reads itself.
        shared: the names of the parameters that several pieces read; the root hands them over.
    """

    root: fx.Graph
    graphs: Sequence[fx.Graph]
    state: Sequence[tuple[str, ...]]
    shared: tuple[str, ...]


def places(graph: fx.Graph, sizes: Mapping[str, int], size: int) -> dict[str, int]:
    """Return for the name of every node that computes from inputs the number of its piece.

    Args:
        graph: is cut where so many values of parameters have come together.
        sizes: how many values each parameter has.
        size: of a piece; a node with more is one by itself.
    """
    fixed = _fixed(graph)
    found: dict[str, int] = {}
    seen, piece, filled = set[str](), 0, 0
    for node in graph.nodes:
        if node.op in ("placeholder", "output") or node in fixed:
            continue
        new = {name for name in _read(node, fixed) if name in sizes and name not in seen}
        more = sum(sizes[name] for name in new)
        if filled and more and filled + more > size:
            piece, filled = piece + 1, 0
        seen |= new
        filled += more
        found[node.name] = piece
    return found


def cut(graph: fx.Graph, where: Mapping[str, int], parameters: Iterable[str]) -> Pieces:
    """Cut a graph.

    What depends on the state alone is computed in each piece that uses it: a view of a weight must not outlive the
    time in which the weight is whole.

    Args:
        graph: is not changed.
        where: the piece of each node, as `places` gives it, for this graph or one with more nodes.
        parameters: names of the state that only one piece may read.
    """
    fixed, count = _fixed(graph), max(where.values(), default=0) + 1
    inside: list[list[fx.Node]] = [[] for _ in range(count)]
    for node in graph.nodes:
        if node.op not in ("placeholder", "output") and node not in fixed:
            inside[where[node.name]].append(node)
    reads = [tuple(dict.fromkeys(name for node in nodes for name in _read(node, fixed))) for nodes in inside]
    wanted = set(parameters)
    shared = tuple(name for name in sorted(wanted) if sum(name in names for names in reads) > 1)
    state = [tuple(name for name in names if name not in shared) for names in reads]
    builder = _Builder(graph, fixed, set(shared))
    graphs = [builder.piece(number, nodes) for number, nodes in enumerate(inside)]
    return Pieces(builder.finished(), graphs, state, shared)


class _Builder:
    """Builds the root while pieces are taken out one by one."""

    def __init__(self, graph: fx.Graph, fixed: set[fx.Node], shared: set[str]) -> None:
        self._graph, self._fixed, self._shared = graph, fixed, shared
        self._root = fx.Graph()
        self._root._codegen = copy.copy(graph._codegen)
        self._known = {node: self._root.node_copy(node) for node in graph.nodes if node.op == "placeholder"}

    def piece(self, number: int, nodes: Sequence[fx.Node]) -> fx.Graph:
        """Return the graph of a piece, and call it in the root."""
        inner, inputs = fx.Graph(), dict[fx.Node, fx.Node]()
        body: list[fx.Node] = []
        for node in nodes:
            body += [other for other in self._needed(node) if other not in body]
        members = set(body)
        outside = [value for node in body for value in node.all_input_nodes if value not in members]
        for value in dict.fromkeys(outside):
            inputs[value] = inner.placeholder(f"given_{len(inputs)}")
        values = dict(inputs)
        for node in body:
            values[node] = inner.node_copy(node, values.__getitem__)
        own = set(nodes)
        results = [node for node in nodes if any(user not in own for user in node.users)]
        inner.output(tuple(values[node] for node in results))
        called = self._root.call_module(f"pieces.{number}", tuple(self._in_root(value) for value in inputs))
        for place, node in enumerate(results):
            self._known[node] = self._root.call_function(getitem, (called, place))
        return inner

    def finished(self) -> fx.Graph:
        """Return the root, with the graph's output."""
        output = self._graph.output_node()
        self._root.node_copy(output, self._in_root)
        return self._root

    def _needed(self, node: fx.Node) -> list[fx.Node]:
        """Return a node behind the nodes of the state that it needs, but for the shared parameters."""
        found: list[fx.Node] = []
        for value in node.all_input_nodes:
            if value in self._fixed and not self._is_shared(value):
                found += [other for other in self._needed(value) if other not in found]
        return [*found, node]

    def _is_shared(self, node: fx.Node) -> bool:
        return node.op == "get_attr" and str(node.target) in self._shared

    def _in_root(self, node: fx.Node) -> fx.Node:
        if node not in self._known:  # of the state: a shared parameter, or a part of the output
            for value in node.all_input_nodes:
                self._in_root(value)
            self._known[node] = self._root.node_copy(node, self._known.__getitem__)
        return self._known[node]


def _fixed(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that compute from the state alone, and may be computed again."""
    base = aliasing.bases(graph)
    written = {base[target] for node in graph.nodes for target in aliasing.written(node)}
    return {
        node
        for node in state_only(graph)
        if node.op == "get_attr" or (not aliasing.written(node) and base[node] not in written)
    }


def _read(node: fx.Node, fixed: set[fx.Node]) -> list[str]:
    """Return the names of the state that a node reads, directly or through nodes of the state."""
    found: list[str] = []
    for value in node.all_input_nodes:
        if value.op == "get_attr":
            found.append(str(value.target))
        elif value in fixed:
            found += _read(value, fixed)
    return found
