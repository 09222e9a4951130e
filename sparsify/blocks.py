"""Removable blocks: residual branches with names, alone or gathered into the layers of repeated modules.

Branches are found in the graph with dominators, not by module names; names only serve to call a block something and to
gather the sublayers of a repeated module into a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from torch import fx

from sparsify.naming import distinct_names, repeated_module
from sparsify.program import Program
from sparsify.residual import Branch, find_branches, shape
from sparsify.stream import Stream

__all__ = ["Block", "Granularity", "blocks"]

Granularity = Literal["layer", "sublayer"]


@dataclass(frozen=True)
class Block:
    """A part of a program that can be replaced by its own input.

    Attributes:
        name: module path, readable and unique.
        parameters: names of the parameters that only this block reads, and that go away with it.
        entry: name of the node whose value takes the block's place (the block's input, or its shortcut).
        exit: name of the node that is replaced.
        removable: whether it may be removed without naming a special shortcut rule.
        reason: why it is not removable, or None.
        shortcut: `identity`, or `projection` when the shortcut changes the value; then only the branch can go.
        contains: names of smaller blocks inside this one.
        sublayers: names of the sublayers that make up this layer.
    """

    name: str
    parameters: tuple[str, ...]
    entry: str
    exit: str
    removable: bool = True
    reason: str | None = None
    shortcut: Literal["identity", "projection"] = "identity"
    contains: tuple[str, ...] = ()
    sublayers: tuple[str, ...] = ()


def blocks(program: Program, granularity: Granularity = "layer") -> list[Block]:
    """Find the blocks of a program, in the order of the graph.

    Args:
        program: any program.
        granularity: `sublayer` lists every residual branch; `layer` gathers the branches of one repeated module, such
            as attention and MLP of a transformer layer, with the norm that follows the last sum.

    Returns:
        All blocks, also those that cannot be removed, each with the reason.
    """
    stream = Stream(program)
    sublayers = _describe(find_branches(stream), stream)
    return sublayers if granularity == "sublayer" else _layers(program, stream, sublayers)


def _describe(found: list[Branch], stream: Stream) -> list[Block]:
    """Give every block its name and parameters, and tell which smaller blocks it contains."""
    read = [stream.parameters(item.region) for item in found]
    heavy = [[name for name in names if stream.dimensions[name] >= 2] or names for names in read]
    names = distinct_names(heavy, [item.exit.name for item in found])
    described = []
    for index, item in enumerate(found):
        inner = tuple(
            names[other]
            for other, smaller in enumerate(found)
            if other != index and smaller.exit in item.region and smaller.entry in {*item.region, item.entry}
        )
        described.append(
            Block(
                name=names[index],
                parameters=tuple(stream.own_parameters(item.region)),
                entry=item.entry.name,
                exit=item.exit.name,
                removable=item.reason is None,
                reason=item.reason,
                shortcut=item.shortcut,
                contains=inner,
            )
        )
    return described


def _layers(program: Program, stream: Stream, sublayers: list[Block]) -> list[Block]:
    """Gather sublayers that follow each other in one repeated module."""
    nodes = {node.name: node for node in program.graph.nodes}
    keys = _layer_keys(stream, sublayers, nodes)
    result = []
    for key, group in groupby(zip(sublayers, keys, strict=True), key=lambda pair: pair[1]):
        members = [block for block, _ in group]
        inner = {name for block in members for name in block.contains}
        outer = [block for block in members if block.name not in inner]
        result.extend(_layer(key, outer, stream, nodes) if key else members)
    return result


def _layer_keys(stream: Stream, sublayers: list[Block], nodes: dict[str, fx.Node]) -> list[str]:
    """Return for every sublayer the repeated module it belongs to; `h.0.mlp.0` next to `h.0` belongs to `h.0`."""
    keys = []
    for block in sublayers:
        region = stream.between(nodes[block.entry], [nodes[block.exit]])
        keys.append(repeated_module(stream.parameters(region)))
    outer = set(keys) - {""}
    return [min((k for k in outer if key == k or key.startswith(f"{k}.")), key=len, default="") for key in keys]


def _layer(key: str, members: list[Block], stream: Stream, nodes: dict[str, fx.Node]) -> list[Block]:
    """Make one layer of sublayers if each starts where the one before it ends; else leave them alone."""
    if len(members) == 1 and members[0].shortcut == "projection":
        return [replace(members[0], name=key, sublayers=(members[0].name,))]
    ends = [_with_tail(nodes[block.exit], key, stream) for block in members]
    starts = [stream.origin(nodes[block.entry]) for block in members]
    chained = all(start is end for start, end in zip(starts[1:], ends, strict=False))
    if not chained or any(block.shortcut == "projection" for block in members):
        return members
    entry, exit_ = nodes[members[0].entry], ends[-1]
    refused = next((block for block in members if not block.removable), None)
    layer = replace(
        members[0],
        name=key,
        parameters=tuple(stream.own_parameters(stream.between(entry, [exit_]))),
        exit=exit_.name,
        removable=refused is None,
        reason=refused and (refused.reason if len(members) == 1 else f"in {refused.name}, {refused.reason}"),
        contains=tuple(name for block in members for name in block.contains),
        sublayers=tuple(block.name for block in members),
    )
    return [layer]


def _with_tail(exit_: fx.Node, key: str, stream: Stream) -> fx.Node:
    """Move on over the norm that follows the sum (post-norm transformers), as long as it belongs to the module `key`."""
    while True:
        users = [user for user in exit_.users if user in stream.nodes]
        own = stream.parameters(users[:1])
        inside = own and all(name.startswith(f"{key}.") for name in own)
        if len(users) != 1 or len(exit_.users) != 1 or not inside or shape(users[0]) != shape(exit_):
            return exit_
        exit_ = users[0]
