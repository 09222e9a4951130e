"""Graphs: copies of them, and the masks in them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import fx

__all__ = ["ancestors", "aten", "attribute", "copied_graph", "copied_nodes", "is_mask", "mask_nodes", "state_only"]

aten = torch.ops.aten


def ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return some nodes and all that they are computed from."""
    found, pending = set[fx.Node](), list(nodes)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending.extend(node.all_input_nodes)
    return found


def attribute(graph: fx.Graph, name: str) -> fx.Node:
    """Add a node that reads a parameter or buffer, before everything else: all that computes comes behind them."""
    with graph.inserting_before(next(iter(graph.nodes))):
        return graph.create_node("get_attr", name)


def copied_graph(graph: fx.Graph) -> fx.Graph:
    """Return a copy of a graph with the same node names and metadata, and the same calling convention."""
    return copied_nodes(graph)[0]


def copied_nodes(
    graph: fx.Graph, without: Mapping[fx.Node, fx.Node | None] | None = None
) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    """As `copied_graph`; return the node that each node became, too.

    Args:
        graph: is not changed.
        without: nodes that are left out, each with the node that those who use it use instead.
    """
    result = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    left_out = without or {}
    for node in graph.nodes:
        if node not in left_out:
            values[node] = result.node_copy(node, values.__getitem__)
        elif (instead := left_out[node]) is not None:
            values[node] = values[instead]
    result._codegen = copy.copy(graph._codegen)
    return result, values


def mask_nodes(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes that mask a tensor of the state: `where(mask, weight, base)`."""
    return [node for node in graph.nodes if is_mask(node)]


def is_mask(node: fx.Node) -> bool:
    """Whether a node masks a tensor of the state."""
    return node.target in (aten.where.ScalarOther, aten.where.self) and all(
        isinstance(value, fx.Node) and value.op == "get_attr" for value in node.args[:2]
    )


def state_only(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose value depends on no input and on no chance: the state and what is computed from it."""
    fixed: set[fx.Node] = set()
    for node in graph.nodes:
        random = (
            isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags
        )
        own = node.op not in ("placeholder", "output") and not random
        if own and all(value in fixed for value in node.all_input_nodes):
            fixed.add(node)
    return fixed
