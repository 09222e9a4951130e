"""The stream of a program: the activations, with who dominates whom.

A node belongs to the stream when its value depends on a parameter and on the values of an input, or is a floating
input or computed from one. Attention masks made of tokens, position tables and everything computed from shapes alone
are not part of it, so a block that reads such a mask or rotary tables still has one entry: the residual stream.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import networkx as nx
import torch
from torch import Tensor, fx

from sparsify.program import Program

__all__ = ["Stream"]

aten = torch.ops.aten
_CASTS = (aten.to.dtype, aten.to.dtype_layout, aten.to.device, aten.contiguous.default, aten.alias.default)


class Stream:
    """The activation nodes of a program in order, their edges and their dominator tree.

    Attributes:
        nodes: the activation nodes, each with its position.
        readers: for every parameter the activation nodes (or the output) that read it, directly or through a value
            computed from parameters alone, such as a masked weight.
        dimensions: for every parameter its number of dimensions.
    """

    def __init__(self, program: Program) -> None:
        self.nodes: dict[fx.Node, int] = {}
        self.dimensions = {name: value.ndim for name, value in program.parameters.items()}
        on_input: set[fx.Node] = set()
        on_parameter: set[fx.Node] = set()
        signals: set[fx.Node] = set()
        for node in program.graph.nodes:
            if node.op == "placeholder":
                on_input.add(node)
                if _is_float(node):
                    signals.add(node)
                    self.nodes[node] = len(self.nodes)
            elif node.op == "get_attr" and node.target in program.parameters:
                on_parameter.add(node)
            elif node.op == "call_function" and _carries_values(node):
                sources = node.all_input_nodes
                if any(source in on_input for source in sources):
                    on_input.add(node)
                if any(source in on_parameter for source in sources):
                    on_parameter.add(node)
                if _is_float(node) and any(source in signals for source in sources):
                    signals.add(node)
                if node in signals or (node in on_input and node in on_parameter):
                    self.nodes[node] = len(self.nodes)
        self.readers = {
            str(node.target): self._readers(node)
            for node in program.graph.nodes
            if node in on_parameter and node.op == "get_attr"
        }
        self._read: dict[fx.Node, list[str]] = {}
        for name, readers in self.readers.items():
            for reader in readers:
                self._read.setdefault(reader, []).append(name)
        self._enter, self._leave = self._dominator_tree()

    def origin(self, node: fx.Node) -> fx.Node:
        """Walk back over casts to the type that the value already has."""
        while node.target in _CASTS and isinstance(source := node.args[0], fx.Node) and source in self.nodes:
            if source.meta["val"].dtype != node.meta["val"].dtype or node.kwargs.get("copy"):
                break
            node = source
        return node

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """Return the activations that `node` reads."""
        return [source for source in node.all_input_nodes if source in self.nodes]

    def parameters(self, region: Iterable[fx.Node]) -> list[str]:
        """Return the names of the parameters that some node of `region` reads, in the order of the graph."""
        ordered = sorted((node for node in region if node in self.nodes), key=self.nodes.__getitem__)
        return list(dict.fromkeys(name for node in ordered for name in self._read.get(node, ())))

    def own_parameters(self, region: Collection[fx.Node]) -> list[str]:
        """Return the names of the parameters that nothing outside of `region` reads."""
        return [name for name in self.parameters(region) if all(node in region for node in self.readers[name])]

    def dominates(self, one: fx.Node, other: fx.Node) -> bool:
        """Whether every way from the inputs to `other` goes through `one`."""
        return self._enter[one] <= self._enter[other] and self._leave[other] <= self._leave[one]

    def common_dominator(self, nodes: Iterable[fx.Node]) -> fx.Node | None:
        """Return the last activation that dominates all of `nodes`, or None."""
        first, *others = nodes
        candidate: fx.Node | None = first
        while candidate is not None and not all(self.dominates(candidate, other) for other in others):
            candidate = self._parent[candidate]
        return candidate

    def between(self, start: fx.Node, ends: Iterable[fx.Node]) -> dict[fx.Node, None]:
        """Return the activations on the ways from `start` to `ends`: without `start`, with `ends`, in order."""
        first = self.nodes[start]
        closure: set[fx.Node] = set()
        stack = [end for end in ends if end is not start]
        while stack:
            node = stack.pop()
            if node not in closure and self.nodes[node] > first:
                closure.add(node)
                stack.extend(self.sources(node))
        region: dict[fx.Node, None] = {}
        for node in sorted(closure, key=self.nodes.__getitem__):
            if any(source is start or source in region for source in self.sources(node)):
                region[node] = None
        return region

    def enclosed(self, start: fx.Node, ends: Collection[fx.Node]) -> tuple[frozenset[fx.Node], fx.Node | None]:
        """Return the activations between `start` and `ends` with what only they read, such as keys of an encoder.

        Returns:
            The nodes, and None; or, if only they read what the model computes from an input, just the nodes between,
            and the node that reads the input: everything from there on would be cut off without them.
        """
        between = self.between(start, ends)
        region = set(between)
        fringe = {source for node in region for source in self.sources(node)} - region - {start}
        while fringe:
            node = max(fringe, key=self.nodes.__getitem__)
            fringe.discard(node)
            if not self.is_inner(node, region):
                continue
            sources = self.sources(node)
            if not sources and (node.op != "placeholder" or self.parameters(region.difference(between))):
                return frozenset(between), node
            if sources:
                region.add(node)
                fringe.update(source for source in sources if source not in region and source is not start)
        return frozenset(region), None

    def is_inner(self, node: fx.Node, region: Collection[fx.Node]) -> bool:
        """Whether only nodes of `region` read the value of `node` or its shape."""
        return bool(node.users) and all(self.stays_in(user, region) for user in node.users)

    def stays_in(self, user: fx.Node, region: Collection[fx.Node]) -> bool:
        """Whether `user` belongs to `region`, or is a size or the like that only nodes of `region` read."""
        return user in region or (user not in self.nodes and self.is_inner(user, region))

    def _readers(self, parameter: fx.Node) -> set[fx.Node]:
        readers, stack, seen = set(), [parameter], {parameter}
        while stack:
            for user in stack.pop().users:
                if user in self.nodes or user.op == "output":
                    readers.add(user)
                elif user not in seen:
                    seen.add(user)
                    stack.append(user)
        return readers

    def _dominator_tree(self) -> tuple[dict[fx.Node, int], dict[fx.Node, int]]:
        """Number the dominator tree so that dominance is a comparison of intervals."""
        graph: nx.DiGraph = nx.DiGraph()
        root: Any = "the inputs"
        graph.add_node(root)
        for node in self.nodes:
            graph.add_edges_from((source, node) for source in (self.sources(node) or [root]))
        parents = nx.immediate_dominators(graph, root)
        self._parent: dict[fx.Node, fx.Node | None] = {
            node: None if parents[node] == root else parents[node] for node in self.nodes
        }
        children: dict[fx.Node | None, list[fx.Node]] = {}
        for node, parent in self._parent.items():
            children.setdefault(parent, []).append(node)
        enter: dict[fx.Node, int] = {}
        leave: dict[fx.Node, int] = {}
        clock = 0
        stack: list[tuple[fx.Node, bool]] = [(child, False) for child in reversed(children.get(None, []))]
        while stack:
            node, done = stack.pop()
            clock += 1
            if done:
                leave[node] = clock
                continue
            enter[node] = clock
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(children.get(node, [])))
        return enter, leave


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(item, Tensor) and item.is_floating_point() for item in values)


def _carries_values(node: fx.Node) -> bool:
    """Whether the values of the arguments matter to the result, not only their shapes."""
    if not isinstance(node.meta.get("val"), (Tensor, list, tuple)):
        return False
    name = node.target._schema.name if isinstance(node.target, torch._ops.OpOverload) else ""
    return not (name.startswith("aten::new_") or name.endswith("_like"))
