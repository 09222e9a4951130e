"""Taking blocks out of a program: nodes, parameters and buffers are gone afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from sparsify import verify
from sparsify.blocks import Block
from sparsify.errors import PassError
from sparsify.program import Program
from sparsify.ranges import is_redundant, ranges
from sparsify.stream import Stream

__all__ = ["region_of", "remove"]


def remove(program: Program, chosen: Sequence[Block], *, simplify: bool = True) -> Program:
    """Return the program without the chosen blocks.

    A ReLU (or clamp) that followed a removed block and now provably does nothing is removed as well; both forms are
    run and compared before the shorter one is returned.

    Args:
        program: where the blocks were found.
        chosen: blocks of this program.
        simplify: remove activations that have become redundant.

    Raises:
        PassError: together the blocks would cut off other parts of the model, such as an encoder that only they read.
        ContractError: the program without a redundant activation differs from the one with it.
    """
    graph = program.copy_graph()
    nodes = {node.name: node for node in graph.nodes}
    followers: list[fx.Node] = []
    stands_for: dict[fx.Node, fx.Node] = {}
    for block in chosen:
        exit_, entry = nodes[block.exit], nodes[block.entry]
        while entry in stands_for:
            entry = stands_for[entry]
        followers.extend(exit_.users)
        exit_.replace_all_uses_with(entry)
        stands_for[exit_] = entry
    shorter = program.with_graph(graph)
    _check_nothing_else_went(program, shorter, chosen)
    return _simplified(shorter, {node.name for node in followers}) if simplify else shorter


def region_of(stream: Stream, entry: fx.Node, exit_: fx.Node, block: Block) -> frozenset[fx.Node]:
    """Return the activations that go with a block, between the nodes that its entry and exit are called after."""
    start = entry if block.shortcut == "identity" else stream.common_dominator([entry, exit_])
    return frozenset() if start is None else stream.enclosed(start, [exit_])[0]


def _check_nothing_else_went(before: Program, after: Program, chosen: Sequence[Block]) -> None:
    stream = Stream(before)
    nodes = {node.name: node for node in before.graph.nodes}
    expected: set[str] = set()
    for block in chosen:
        expected.update(stream.parameters(region_of(stream, nodes[block.entry], nodes[block.exit], block)))
    lost = [name for name in before.parameters if name not in after.parameters and name not in expected]
    if lost:
        names = ", ".join(block.name for block in chosen)
        raise PassError(f"Removing {names} would cut off {lost[0]} and {len(lost) - 1} more. Keep one of the blocks.")


def _simplified(program: Program, followers: set[str]) -> Program:
    graph = program.copy_graph()
    known = ranges(graph)
    redundant = [node for node in graph.nodes if node.name in followers and is_redundant(node, known)]
    if not redundant:
        return program
    for node in redundant:
        node.replace_all_uses_with(node.args[0])
    shorter = program.with_graph(graph)
    verify.equivalent(program, shorter)
    return shorter
