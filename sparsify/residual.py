"""Residual branches: sums `x + f(x)` in which f can be dropped without touching anything else.

The branch f must have one entry (x, or what is read elsewhere as well) and one exit (the sum). A sum may be written as
several adds; `s(x) + f(x)` with a projection s is found too, and told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx

from sparsify.stream import Stream

__all__ = ["Branch", "find_branches", "shape"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Branch:
    """A residual branch in terms of nodes.

    Attributes:
        entry: the node whose value takes the place of `exit`: x itself, or the shortcut's last node.
        exit: the sum.
        region: the nodes that go away: those of f and the adds of the sum.
        shortcut: what the sum adds f(x) to.
        reason: why the branch cannot simply be dropped, or None.
        droppable: whether it can be dropped at all, if need be by leaving the projection in its place.
    """

    entry: fx.Node
    exit: fx.Node
    region: frozenset[fx.Node]
    shortcut: Literal["identity", "projection"]
    reason: str | None
    droppable: bool


def find_branches(stream: Stream) -> list[Branch]:
    """Find the residual branches that read parameters, in the order of their sums."""
    found = []
    for node in stream.nodes:
        if not _is_add(node, stream):
            continue
        terms = _terms(node, stream)
        item = _identity(node, terms, stream)
        sum_ = _whole_sum(node, stream)
        if sum_ is node:
            item = item or _projection(node, terms, stream)
        elif item is not None:
            outer = _identity(sum_, _terms(sum_, stream), stream)
            item = None if outer is not None and outer.entry is item.entry else item
        if item is not None and stream.parameters(item.region):
            found.append(item)
    return found


def _is_add(node: fx.Node, stream: Stream) -> bool:
    return (
        node.target is aten.add.Tensor
        and not node.kwargs
        and all(isinstance(argument, fx.Node) and argument in stream.nodes for argument in node.args[:2])
        and shape(node.args[0]) == shape(node.args[1])
    )


def _whole_sum(node: fx.Node, stream: Stream) -> fx.Node:
    """Return the last add of the sum that the add is part of."""
    while len(node.users) == 1 and _is_add(user := next(iter(node.users)), stream):
        node = user
    return node


def _terms(node: fx.Node, stream: Stream) -> list[fx.Node]:
    """Return the terms of a sum that is written as several adds."""
    terms: list[fx.Node] = []
    for argument in node.args[:2]:
        assert isinstance(argument, fx.Node)
        inner = _is_add(argument, stream) and len(argument.users) == 1
        terms.extend(_terms(argument, stream) if inner else [argument])
    return terms


def _identity(exit_: fx.Node, terms: list[fx.Node], stream: Stream) -> Branch | None:
    """Match `x + f(x)`: one term is the entry of all the others."""
    for skip in terms:
        others = [term for term in terms if term is not skip]
        region = stream.between(skip, others)
        if len(others) != len(terms) - 1 or not all(term in region for term in others) or not _same_type(skip, exit_):
            continue
        inside, cut_off = stream.enclosed(skip, [exit_])
        reason = _reason(inside, cut_off, exit_, stream)
        return Branch(skip, exit_, inside, "identity", reason, droppable=reason is None)
    return None


def _projection(exit_: fx.Node, terms: list[fx.Node], stream: Stream) -> Branch | None:
    """Match `s(x) + f(x)` where the shortcut s is one projection, a pooling or the like; f is the heavier term."""
    source = stream.common_dominator(terms)
    if source is None or len(terms) != 2 or source in terms:
        return None
    regions = [frozenset(stream.between(source, [term])) for term in terms]
    if regions[0] & regions[1]:
        return None
    light, heavy = sorted(range(2), key=lambda i: (_weights(regions[i], stream), len(regions[i])))
    if _weights(regions[light], stream) > 1 or _weights(regions[heavy], stream) <= _weights(regions[light], stream):
        return None
    if not _same_type(terms[light], exit_):
        return None
    inside, cut_off = stream.enclosed(source, [terms[heavy]])
    inside |= {exit_}
    before, after = shape(source), shape(exit_)
    change = f"{_sizes(before)} becomes {_sizes(after)}" if before != after else "it changes the values"
    refusal = _reason(inside, cut_off, exit_, stream)
    reason = refusal or f"its shortcut is not the identity ({change}); shortcut=keep drops the branch only"
    return Branch(terms[light], exit_, inside, "projection", reason, droppable=refusal is None)


def _reason(inside: frozenset[fx.Node], cut_off: fx.Node | None, exit_: fx.Node, stream: Stream) -> str | None:
    """One entry: nothing may be cut off with the branch. One exit: nothing outside may read a value of it."""
    if cut_off is not None:
        return f"its branch also reads {cut_off.name}, which nothing else reads"
    for node in sorted(inside - {exit_}, key=stream.nodes.__getitem__):
        for user in node.users:
            if not stream.stays_in(user, inside):
                return f"its inner value {node.name} is also read by {user.name}"
    return None


def _same_type(one: fx.Node, other: fx.Node) -> bool:
    return bool(one.meta["val"].dtype == other.meta["val"].dtype)


def _weights(region: frozenset[fx.Node], stream: Stream) -> int:
    """Count the weight matrices and kernels that a region reads."""
    return sum(1 for name in stream.parameters(region) if stream.dimensions[name] >= 2)


def shape(node: object) -> tuple[object, ...]:
    """Return the shape of a node's tensor, symbolic sizes included; empty for anything else."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _sizes(shape: tuple[object, ...]) -> str:
    return "x".join(str(size) for size in shape[1:])
