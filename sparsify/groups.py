"""Groups: what of a program's parameters can only be removed together.

A group is one leaf axis with all the parameter dimensions that it appears in. Removing index i of the group means
removing, from each of its members, every position that belongs to i: a channel with its norm and its consumers, a
whole head with its columns of the output projection, a pair of rotary channels in all heads.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from torch import Tensor

from sparsify.axes import Axes, Axis, axes
from sparsify.axes.axis import leaves
from sparsify.axes.inference import without_collector
from sparsify.axes.op import Role
from sparsify.axes.positions import positions, terms
from sparsify.axes.rules.products import KERNEL
from sparsify.axes.zeros import supposed
from sparsify.program import Program, check_program

__all__ = ["UNITS", "Group", "Kind", "Member", "groups", "groups_of"]

Kind = Literal["channels", "heads", "head-dim", "kv-groups", "conv-groups", "experts", "stream"]
UNITS: tuple[Kind, ...] = ("channels", "heads", "head-dim", "kv-groups", "conv-groups", "experts", "stream")


@dataclass(frozen=True)
class Member:
    """A dimension of a parameter that a group runs along.

    Attributes:
        parameter: its name.
        dim: which of its dimensions.
    """

    parameter: str
    dim: int
    _axis: Axis = field(repr=False, compare=False)
    _leaf: Axis = field(repr=False, compare=False)

    @cached_property
    def index(self) -> Tensor:
        """For every position of the dimension the index of the group that it belongs to, or -1.

        Shape [rows, size of the dimension], int64; there is more than one row only where a position belongs to
        several indices.
        """
        return positions(self._axis, self._leaf)

    @property
    def terms(self) -> list[tuple[Axis, ...]]:
        """The size of the dimension as a sum of products of group axes, such as heads times width of a head."""
        return terms(self._axis)


@dataclass(frozen=True)
class Group:
    """Parameter dimensions that only change together.

    Attributes:
        name: the module of its first member, with what an index is if it is no channel: `h.0.attn/heads`.
        kind: what one index is.
        size: the number of indices.
        members: the parameter dimensions.
        frozen: whether the size must stay.
        reason: why it must.
        exact: whether masking an index in all members is the same as removing it.
        note: why it is not the same; removing then changes more than masking does.
        least: how many indices must stay.
        axis: the leaf axis itself.
    """

    name: str
    kind: Kind
    size: int
    members: tuple[Member, ...]
    frozen: bool
    reason: str
    exact: bool
    note: str
    least: int
    axis: Axis = field(repr=False, compare=False)


def groups(program: Program) -> list[Group]:
    """Return the groups of a program in the order of its parameters, frozen ones included.

    Positions of convolution kernels and dimensions of size one are not groups: nothing could be removed from them.

    Raises:
        UsageError: it is no program.
    """
    check_program(program)
    return groups_of(axes(program))


@without_collector()
def groups_of(found: Axes) -> list[Group]:
    """As `groups`, from axes that are already known."""
    members = _members(found)
    reasons = supposed(found).reasons
    kinds, least = _kinds(found), _least(found)
    listed = [
        (leaf, kinds.get(leaf, "channels"), held) for leaf, held in members.items() if leaf.frozen != KERNEL and held
    ]
    return [
        Group(
            name=name,
            kind=kind,
            size=leaf.size,
            members=tuple(held),
            frozen=bool(leaf.frozen),
            reason=leaf.frozen,
            exact=leaf not in reasons,
            note=reasons.get(leaf, ""),
            least=min(least.get(leaf, 1), leaf.size),
            axis=leaf,
        )
        for (leaf, kind, held), name in zip(listed, _names(listed), strict=True)
    ]


def _members(found: Axes) -> dict[Axis, list[Member]]:
    """Map every leaf to the parameter dimensions that it appears in."""
    nodes = {str(node.target): node for node in found.dims if node.op == "get_attr"}
    members: dict[Axis, list[Member]] = defaultdict(list)
    for name in found.program.parameters:
        for dim, axis in enumerate(found.dims[nodes[name]]):
            for leaf in dict.fromkeys(leaves(axis)):
                if leaf.size > 1:
                    members[leaf].append(Member(name, dim, axis, leaf))
    return members


def _kinds(found: Axes) -> dict[Axis, Kind]:
    """Return what an index of a leaf is, where the operators say that it is more than a channel."""
    roles: dict[Axis, Counter[Role]] = defaultdict(Counter)
    heads: list[list[Axis]] = []
    for facts in found.facts.values():
        for axis, role in facts.roles:
            free = [leaf for leaf in leaves(axis) if not leaf.frozen]
            for leaf in free:
                roles[leaf][role] += 1
            if role == "heads" and len(free) > 1:
                heads.append(free)
    shared = {leaf for together in heads if any(roles[x]["repeated"] for x in together) for leaf in together}
    return {leaf: _kind(has, leaf in shared) for leaf, has in roles.items()}


def _kind(roles: Counter[Role], shared: bool) -> Kind:
    if roles["experts"]:
        return "experts"
    if roles["heads"]:
        return "kv-groups" if shared and not roles["repeated"] else "heads"
    if roles["conv-groups"]:
        return "conv-groups"
    if roles["head-dim"]:
        return "head-dim"
    return "stream" if roles["added"] and roles["made"] > 1 else "channels"


def _least(found: Axes) -> dict[Axis, int]:
    least: dict[Axis, int] = {}
    for facts in found.facts.values():
        for axis, size in facts.least:
            for leaf in leaves(axis):
                least[leaf] = max(size, least.get(leaf, 1))
    return least


def _names(listed: Sequence[tuple[Axis, Kind, Sequence[Member]]]) -> list[str]:
    """Name groups by module and kind, or by parameter and dimension where nothing can be removed."""
    taken: Counter[str] = Counter()
    names = []
    for leaf, kind, held in listed:
        first = held[0]
        module = first.parameter.rpartition(".")[0] or first.parameter
        name = module if kind in ("channels", "stream") else f"{module}/{kind}"
        if leaf.frozen:
            name = f"{first.parameter}[{first.dim}]"
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name}#{taken[name]}")
    return names
