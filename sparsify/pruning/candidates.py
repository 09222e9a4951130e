"""Candidates: the weights of a program that may be pruned one by one, and why the others may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from torch import fx

from sparsify.errors import PassError
from sparsify.layers import Layer, in_two_directions, layers
from sparsify.layout import Layout
from sparsify.program import Program
from sparsify.spec import nearest

__all__ = ["Candidates", "First", "Last", "candidates", "check_patterns", "matches"]

First: TypeAlias = Literal["prune", "dense"]
Last: TypeAlias = Literal["prune", "half", "dense"]


@dataclass(frozen=True)
class Candidates:
    """Weights that may be pruned.

    Attributes:
        layouts: by parameter name how its layer reads it.
        last: names of those whose results no other layer reads.
        several: names of those that are read in two directions, as by an encoder and its transposed decoder.
        skipped: names of other parameters of two and more dimensions, each with the reason why it stays.
    """

    layouts: Mapping[str, Layout]
    last: frozenset[str]
    several: frozenset[str]
    skipped: Mapping[str, str]


def candidates(
    program: Program,
    *,
    protect: Sequence[str] = (),
    only: Sequence[str] = (),
    include: Sequence[str] = (),
    first: First = "prune",
    last: Last = "prune",
) -> Candidates:
    """Find the weights that may be pruned: those of linear layers, convolutions and recurrent layers.

    Norms, biases and embeddings stay (also an embedding that an output layer shares), unless they are included.

    Args:
        program: any program.
        protect: names or patterns of parameters and modules that stay.
        only: likewise, of what may be pruned at all; everything if there are none.
        include: likewise, of parameters of other kinds that are pruned too.
        first: whether layers that read the program's inputs are pruned.
        last: whether layers whose results no other layer reads are pruned.

    Raises:
        PassError: a pattern matches nothing, or nothing may be pruned.
    """
    for option, patterns in (("protect", protect), ("only", only), ("include", include)):
        check_patterns(option, patterns, program)
    found: dict[str, Layer] = {}
    read = layers(program)
    for layer in read:
        found.setdefault(layer.parameter, layer)
    several = in_two_directions(read)
    looked_up = _looked_up(program)
    ends = _ends(program, list(found.values()), looked_up)
    layouts: dict[str, Layout] = {}
    skipped: dict[str, str] = {}
    for name, value in program.parameters.items():
        reason = ""
        if matches(name, include):
            layouts[name] = found[name].layout if name in found else Layout((0,), tuple(range(1, value.ndim)))
        elif name in looked_up:
            reason = "it is an embedding"
        elif name not in found:
            reason = "no linear layer or convolution reads it" if value.ndim > 1 else ""
        else:
            layouts[name] = found[name].layout
        if name in layouts:
            reason = _left_out(name, ends, protect=protect, only=only, first=first, last=last)
        if reason:
            layouts.pop(name, None)
            skipped[name] = reason
    if not layouts:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise PassError(f"The model has no weight to prune{f' ({why})' if why else ''}.")
    return Candidates(layouts, frozenset(ends[1] & layouts.keys()), frozenset(several & layouts.keys()), skipped)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a parameter, or a module that it is in, is named by one of the patterns."""
    parts = name.split(".")
    names = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(fnmatchcase(item, pattern) for pattern in patterns for item in names)


def check_patterns(option: str, patterns: Sequence[str], program: Program) -> None:
    """Check that every pattern matches a parameter.

    Raises:
        PassError: one does not.
    """
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in program.parameters):
            modules = {name.rpartition(".")[0] for name in program.parameters} - {""}
            raise PassError(
                f"{option}={pattern} matches no parameter{nearest(pattern, [*modules, *program.parameters])}."
            )


def _left_out(
    name: str, ends: tuple[set[str], set[str]], *, protect: Sequence[str], only: Sequence[str], first: First, last: Last
) -> str:
    if matches(name, protect):
        return "it is protected"
    if only and not matches(name, only):
        return "it is not among only="
    if first == "dense" and name in ends[0]:
        return "it is a first layer"
    return "it is a last layer" if last == "dense" and name in ends[1] else ""


def _looked_up(program: Program) -> set[str]:
    """Return the parameters that some operator looks rows up in."""
    return {
        str(node.args[0].target)
        for node in program.graph.nodes
        if node.op == "call_function" and "embedding" in str(node.target)
        and isinstance(node.args[0], fx.Node) and node.args[0].op == "get_attr"
    }  # fmt: skip


def _ends(program: Program, found: Sequence[Layer], looked_up: set[str]) -> tuple[set[str], set[str]]:
    """Return the weights that meet the inputs before any other weight does, and those that no other weight follows."""
    heavy = {layer.node: layer.parameter for layer in found}
    behind: set[fx.Node] = set()
    first: set[str] = set()
    for node in program.graph.nodes:
        after = any(value in behind for value in node.all_input_nodes)
        is_lookup = any(value.op == "get_attr" and value.target in looked_up for value in node.all_input_nodes)
        if node in heavy and not after:
            first.add(heavy[node])
        if after or node in heavy or is_lookup:
            behind.add(node)
    ahead: set[fx.Node] = set()
    last: set[str] = set()
    for node in reversed(program.graph.nodes):
        before = any(user in ahead for user in node.users)
        if node in heavy and not before:
            last.add(heavy[node])
        if before or node in heavy:
            ahead.add(node)
    return first, last
