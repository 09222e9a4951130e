"""A sketch of a program: the graph of its operators that carry weights, for drawing.

Only activations are followed (see `sparsify.stream`). Operators that read a parameter or multiply matrices, and norms,
are boxes; what only joins several of them, such as a residual sum, is a joint; the rest is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import networkx as nx
from torch import Tensor, fx

from sparsify.axes import Axis
from sparsify.axes.axis import leaves
from sparsify.axes.op import key_of
from sparsify.blocks import Block
from sparsify.cost import macs_by_node
from sparsify.graph_text import type_text
from sparsify.groups import Group
from sparsify.program import Program
from sparsify.prunable import Prunable, why_frozen
from sparsify.report import wording
from sparsify.stream import Stream

__all__ = ["Item", "Sketch", "sketch"]

Kind = Literal["input", "output", "operator", "joint"]


@dataclass(frozen=True)
class Item:
    """Something that is drawn.

    Attributes:
        name: of its node in the graph.
        kind: an input, an output, an operator (a box) or a joint of several values (a dot).
        title: the module of its weights, or the operator.
        text: what it computes, such as `conv2d 3x3, 16 → 32`.
        shape: type and shape of its result.
        parameters: the names of those that it reads.
        macs: its multiply-accumulates.
        channels: groups that its result has an axis of, those that can be pruned.
        groups: all groups that its result or its parameters have an axis of.
        frozen: why no axis of its result can be pruned; empty if one can.
        known: whether there is an axis rule for it.
    """

    name: str
    kind: Kind
    title: str
    text: str
    shape: str
    parameters: tuple[str, ...] = ()
    macs: int = 0
    channels: tuple[Group, ...] = ()
    groups: tuple[Group, ...] = ()
    frozen: str = ""
    known: bool = True


@dataclass(frozen=True)
class Sketch:
    """A graph to draw.

    Attributes:
        items: what is drawn, by the names of their nodes, in the order of the program.
        graph: between those names.
        frames: for the name of each removable block the items inside it.
    """

    items: dict[str, Item]
    graph: nx.DiGraph
    frames: dict[str, frozenset[str]]


def sketch(program: Program, found: Prunable, blocks: Sequence[Block] = ()) -> Sketch:
    """Sketch a program.

    Args:
        program: what is sketched.
        found: its groups.
        blocks: of the program; the removable ones are framed.
    """
    return _Drawing(program, found).draw(blocks)


class _Drawing:
    def __init__(self, program: Program, found: Prunable) -> None:
        self._program = program
        self._stream = Stream(program)
        self._macs = macs_by_node(program)
        self._found = found
        self._unknown = {name for names in found.unknown.values() for name in names}
        self._by_axis = {group.axis: group for group in found.groups}
        self._by_parameter: dict[str, list[Group]] = {}
        for group in found.groups:
            for member in group.members:
                self._by_parameter.setdefault(member.parameter, []).append(group)
        self._origin: dict[fx.Node, fx.Node | None] = {}  # the item that a value comes from, itself if it is one
        self._passed: dict[fx.Node, frozenset[str]] = {}  # operators on the way from there
        self._items: dict[str, Item] = {}
        self._graph: nx.DiGraph = nx.DiGraph()

    def draw(self, blocks: Sequence[Block]) -> Sketch:
        for node in self._program.graph.nodes:
            if node in self._stream.nodes or node.op in ("placeholder", "output"):
                self._add(node)
        self._drop_idle_inputs()
        frames = {block.name: self._inside(block) for block in blocks if block.removable}
        return Sketch(self._items, self._graph, {name: inside for name, inside in frames.items() if inside})

    def _add(self, node: fx.Node) -> None:
        values = node.all_input_nodes if node.op == "output" else self._stream.sources(node)
        origins = dict.fromkeys(self._origin[value] for value in values if value in self._origin)
        sources = [origin for origin in origins if origin is not None]
        kind = self._kind(node, len(sources))
        if kind is None:
            self._origin[node] = sources[0] if sources else None
            self._passed[node] = frozenset({key_of(node)}.union(*(self._passed[value] for value in values)))
            return
        self._passed[node] = frozenset()
        self._origin[node] = node
        norm = any("aten::rsqrt" in self._passed.get(value, ()) for value in values)
        self._items[node.name] = self._item(node, kind, norm)
        self._graph.add_node(node.name)
        self._graph.add_edges_from((source.name, node.name) for source in sources or self._inputs(node))

    def _kind(self, node: fx.Node, sources: int) -> Kind | None:
        if node.op == "placeholder":
            return "input"
        if node.op == "output":
            return "output"
        carries = self._stream.parameters([node]) or node.name in self._macs or node.name in self._unknown
        if carries or wording.is_norm(node):
            return "operator"
        return "joint" if sources > 1 else None

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        """Return the inputs that an item without a source computes with, such as the tokens of an embedding."""
        found, stack, seen = [], list(node.all_input_nodes), set(node.all_input_nodes)
        while stack:
            value = stack.pop()
            if value.op == "placeholder":
                found.append(value)
            elif isinstance(value.meta.get("val"), Tensor):
                stack.extend(new for new in value.all_input_nodes if new not in seen)
                seen.update(value.all_input_nodes)
        return found

    def _drop_idle_inputs(self) -> None:
        """Leave out inputs that only matter to masks, positions and control flow."""
        for name in [name for name, item in self._items.items() if item.kind == "input"]:
            if not self._graph.succ[name]:
                self._graph.remove_node(name)
                del self._items[name]

    def _item(self, node: fx.Node, kind: Kind, norm: bool) -> Item:
        parameters = tuple(name for name, readers in self._stream.readers.items() if node in readers)
        own = [self._by_axis[leaf] for leaf in self._leaves(node) if leaf in self._by_axis]
        free = [group for group in own if not why_frozen(group)]
        held = [group for name in parameters for group in self._by_parameter.get(name, ())]
        title, text = wording.describe(self._program, node, parameters, norm)
        return Item(
            name=node.name,
            kind=kind,
            title=title,
            text=text,
            shape="" if kind == "output" else self._program.spelled(type_text(node)),
            parameters=parameters,
            macs=self._macs.get(node.name, 0),
            channels=tuple(dict.fromkeys(free)),
            groups=tuple(dict.fromkeys([*own, *held])),
            frozen="" if free else self._reason(node, own),
            known=node.name not in self._unknown,
        )

    def _leaves(self, node: fx.Node) -> list[Axis]:
        dims = self._found.axes.dims.get(node, [])
        flat = [axis for item in dims for axis in item] if isinstance(dims, tuple) else dims
        return [leaf for axis in flat for leaf in leaves(axis)]

    def _reason(self, node: fx.Node, own: Sequence[Group]) -> str:
        reasons = [why_frozen(group) for group in own] + [leaf.frozen for leaf in reversed(self._leaves(node))]
        return next(filter(None, reasons), "")

    def _inside(self, block: Block) -> frozenset[str]:
        """Return the items that a block is made of."""
        entry, end = self._program.node(block.entry), self._program.node(block.exit)
        region, _ = self._stream.enclosed(entry, [end])
        last = self._origin[end]
        return frozenset(node.name for node in (*region, last) if node is not None and node.name in self._items)
