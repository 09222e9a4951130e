"""Memory that values share: which values are views of which, what is written in place, and what therefore must stay."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

__all__ = ["bases", "live", "source", "written"]

_MAYBE_VIEWS = ("aten::dropout", "aten::feature_dropout", "aten::alpha_dropout")  # return their input in evaluation


def source(node: fx.Node) -> fx.Node | None:
    """Return the argument whose memory the result may share, or None when the result has memory of its own."""
    if node.target is operator.getitem:
        return _node(node.args[0])
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    schema = node.target._schema
    if schema.name in _MAYBE_VIEWS:
        return _node(node.args[0])
    if all(result.alias_info is None for result in schema.returns):
        return None
    if schema.is_mutable:
        return next(iter(written(node)), None)
    shared = (_node(value) for value, argument in _arguments(node) if argument.alias_info is not None)
    return next((value for value in shared if value is not None), None)


def written(node: fx.Node) -> list[fx.Node]:
    """Return the arguments that the node writes in place."""
    if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
        return []
    values = [v for v, argument in _arguments(node) if argument.alias_info is not None and argument.alias_info.is_write]
    flat = [item for value in values for item in (value if isinstance(value, (list, tuple)) else [value])]
    return [value for value in flat if isinstance(value, fx.Node)]


def bases(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Map every node to the node that made the memory its value may be in."""
    result: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        origin = source(node)
        result[node] = node if origin is None else result[origin]
    return result


def live(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that the output needs, and the writes into memory that is itself needed.

    A batch norm's step counter is read by nothing; it lives as long as another tensor of the same module does.
    """
    base = bases(graph)
    found: set[fx.Node] = set()
    _mark([node for node in graph.nodes if node.op in ("output", "placeholder")], found)
    writes = [node for node in graph.nodes if written(node)]
    while True:
        memory = {base[node] for node in found}
        owners = {_owner(node) for node in memory if node.op == "get_attr"}
        more = [
            node
            for node in writes
            if node not in found
            and any(
                base[target] in memory or (base[target].op == "get_attr" and _owner(base[target]) in owners)
                for target in written(node)
            )
        ]
        if not more:
            return found
        _mark(more, found)


def _mark(stack: list[fx.Node], found: set[fx.Node]) -> None:
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.all_input_nodes)


def _arguments(node: fx.Node) -> list[tuple[Any, Any]]:
    """Pair the values that a node is called with with the arguments of its operator's schema."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    pairs: list[tuple[Any, Any]] = list(zip(node.args, schema, strict=False))
    return pairs + [(node.kwargs[argument.name], argument) for argument in schema if argument.name in node.kwargs]


def _node(value: Any) -> fx.Node | None:
    return value if isinstance(value, fx.Node) else None


def _owner(node: fx.Node) -> str:
    return str(node.target).rpartition(".")[0]
