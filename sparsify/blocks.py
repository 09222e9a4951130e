"""Removable blocks: residual branches with names, alone or gathered into the layers of repeated modules.

Branches are found in the graph with dominators, not by module names; names only serve to call a block something and to
gather the sublayers of a repeated module into a layer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from torch import fx

from sparsify.naming import distinct_names, layer_keys
from sparsify.program import Program, check_program
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
        droppable: whether its branch can be dropped, at least with shortcut=keep.
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
    droppable: bool = True
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

    Raises:
        UsageError: it is no program.
    """
    check_program(program)
    stream = Stream(program)
    found = find_branches(stream)
    read = [_named_after(item, stream) for item in found]
    sublayers = _describe(found, read, stream)
    return sublayers if granularity == "sublayer" else _layers(program, stream, sublayers, read)


def _named_after(item: Branch, stream: Stream) -> list[str]:
    """Return the parameters that name a branch: its own unless it shares all, and only matrices if it has any."""
    names = stream.own_parameters(item.region) or stream.parameters(item.region)
    return [name for name in names if stream.dimensions[name] >= 2] or names


def _describe(found: list[Branch], read: list[list[str]], stream: Stream) -> list[Block]:
    """Give every block its name and parameters, and tell which smaller blocks it contains."""
    names = distinct_names(read, [item.exit.name for item in found])
    return [
        Block(
            name=name,
            parameters=tuple(stream.own_parameters(item.region)),
            entry=item.entry.name,
            exit=item.exit.name,
            removable=item.reason is None,
            reason=item.reason,
            droppable=item.droppable,
            shortcut=item.shortcut,
            contains=tuple(n for n, other in zip(names, found, strict=True) if other.region < item.region),
        )
        for name, item in zip(names, found, strict=True)
    ]


def _layers(program: Program, stream: Stream, sublayers: list[Block], read: list[list[str]]) -> list[Block]:
    """Gather sublayers that follow each other in one repeated module."""
    nodes = {node.name: node for node in program.graph.nodes}
    groups = _groups(sublayers, read)
    counts = Counter(key for key, _ in groups)
    seen: Counter[str] = Counter()
    home: dict[str, str] = {}
    result: list[Block] = []
    for key, members in groups:
        seen[key] += 1
        layer = _layer(key, members, stream, nodes) if key else None
        if layer is not None:
            layer = replace(layer, name=key if counts[key] == 1 else f"{key}#{seen[key]}")
            home.update((block.name, layer.name) for block in members)
        result.extend([layer] if layer is not None else members)
    return [replace(block, contains=_without(block.name, [home.get(n, n) for n in block.contains])) for block in result]


def _without(name: str, names: list[str]) -> tuple[str, ...]:
    return tuple(other for other in dict.fromkeys(names) if other != name)


def _groups(sublayers: list[Block], read: list[list[str]]) -> list[tuple[str, list[Block]]]:
    """Divide the sublayers into runs of one repeated module; a module that is run again starts another run."""
    groups: list[tuple[str, list[Block]]] = []
    used: dict[str, set[str]] = {}
    for block, key, names in zip(sublayers, layer_keys(read), read, strict=True):
        last_key, members = groups[-1] if groups else ("", [])
        again = any(used[member.name] & set(names) and member.name not in block.contains for member in members)
        if key and key == last_key and not again:
            members.append(block)
        else:
            groups.append((key, [block]))
        used[block.name] = set(names)
    return groups


def _layer(key: str, group: list[Block], stream: Stream, nodes: dict[str, fx.Node]) -> Block | None:
    """Make one layer of sublayers if each starts where the one before it ends; else they stay alone."""
    inner = {name for block in group for name in block.contains}
    members = [block for block in group if block.name not in inner]
    if len(members) == 1 and members[0].shortcut == "projection":
        return replace(members[0], sublayers=(members[0].name,))
    ends = [_with_tail(nodes[block.exit], key, stream) for block in members]
    starts = [stream.origin(nodes[block.entry]) for block in members]
    chained = all(start is end for start, end in zip(starts[1:], ends, strict=False))
    if not chained or any(block.shortcut == "projection" for block in members):
        return None
    refused = next((block for block in members if not block.removable), None)
    reason = None if refused is None else refused.reason
    if refused is not None and len(members) > 1:
        reason = f"in {refused.name}, {reason}"
    region, _ = stream.enclosed(nodes[members[0].entry], [ends[-1]])
    return replace(
        members[0],
        parameters=tuple(stream.own_parameters(region)),
        exit=ends[-1].name,
        removable=refused is None,
        reason=reason,
        droppable=refused is None,
        contains=tuple(name for block in members for name in block.contains),
        sublayers=tuple(block.name for block in members),
    )


def _with_tail(exit_: fx.Node, key: str, stream: Stream) -> fx.Node:
    """Move on over the norm that follows the sum (post-norm transformers), if it belongs to the module `key`."""
    while True:
        users = [user for user in exit_.users if user in stream.nodes]
        own = stream.parameters(users[:1])
        inside = own and all(name.startswith(f"{key}.") for name in own)
        if len(users) != 1 or len(exit_.users) != 1 or not inside or shape(users[0]) != shape(exit_):
            return exit_
        exit_ = users[0]
