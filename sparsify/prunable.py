"""What of a program can be pruned: its groups, what an index of each saves, and why the rest must stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparsify.axes import Axes, Axis, axes
from sparsify.axes.inference import leaves_of
from sparsify.cost import macs_by_node
from sparsify.groups import Group, groups_of
from sparsify.program import Program
from sparsify.pruning.widths import Widths

__all__ = ["Frozen", "Prunable", "prunable", "why_frozen"]


@dataclass(frozen=True)
class Frozen:
    """Axes that keep their size for one reason.

    Attributes:
        reason: why.
        axes: how many there are.
        parameters: those that have one of them.
        share: what part of all parameter values is in those of them that have no other axis to prune either.
    """

    reason: str
    axes: int
    parameters: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Prunable:
    """What of a program can be pruned.

    Attributes:
        groups: all groups, frozen ones included.
        savings: parameters and MACs that go away with one index of a group, by the name of the group; none are listed
            for frozen groups.
        frozen: the frozen groups by their reasons, the reason that costs most first.
        parameters: what part of the parameter values is in a tensor with an axis that can be pruned.
        macs: what part of the multiply-accumulates is in an operator with such an axis.
        unknown: operators without a rule, with the names of their nodes.
        axes: of the program.
    """

    groups: Sequence[Group]
    savings: Mapping[str, tuple[int, int]]
    frozen: Sequence[Frozen]
    parameters: float
    macs: float
    unknown: Mapping[str, Sequence[str]]
    axes: Axes = field(repr=False, compare=False)

    @property
    def free(self) -> list[Group]:
        """The groups that can be pruned."""
        return [group for group in self.groups if not why_frozen(group)]

    def as_dict(self) -> dict[str, Any]:
        """Return everything JSON-able."""
        return {
            "groups": [_as_dict(group, self.savings.get(group.name)) for group in self.groups],
            "frozen": [{**vars(item), "parameters": list(item.parameters)} for item in self.frozen],
            "prunable": {"parameters": self.parameters, "macs": self.macs},
            "operators_without_a_rule": {name: list(nodes) for name, nodes in self.unknown.items()},
        }


def why_frozen(group: Group) -> str:
    """Return why nothing can be removed from a group; empty if something can."""
    return group.reason or ("" if group.least < group.size else "an operator needs all its indices")


def prunable(program: Program) -> Prunable:
    """Find out what of a program can be pruned."""
    found = axes(program)
    groups = groups_of(found)
    free = [group for group in groups if not why_frozen(group)]
    saved = Widths(found).savings(group.axis for group in free)
    sizes = {name: value.numel() for name, value in program.parameters.items()}
    with_free = {member.parameter for group in free for member in group.members}
    return Prunable(
        groups=groups,
        savings={group.name: saved[group.axis] for group in free},
        frozen=_by_reason(groups, sizes, with_free),
        parameters=_share(sizes, with_free),
        macs=_share(macs_by_node(program), _nodes_with(found, {group.axis for group in free})),
        unknown=found.unknown,
        axes=found,
    )


def _by_reason(groups: Sequence[Group], sizes: Mapping[str, int], with_free: set[str]) -> list[Frozen]:
    reasons: dict[str, list[Group]] = {}
    for group in groups:
        if reason := why_frozen(group):
            reasons.setdefault(reason, []).append(group)
    found = []
    for reason, held in reasons.items():
        names = tuple(dict.fromkeys(member.parameter for group in held for member in group.members))
        found.append(Frozen(reason, len(held), names, _share(sizes, set(names) - with_free)))
    return sorted(found, key=lambda item: -item.share)


def _share(values: Mapping[str, int], names: set[str]) -> float:
    """Return what part of the sum of all values those with the given names are."""
    return sum(value for name, value in values.items() if name in names) / max(1, sum(values.values()))


def _nodes_with(found: Axes, wanted: set[Axis]) -> set[str]:
    """Return the names of the nodes that have one of the leaves in their result or in an argument."""
    having = {node for node, dims in found.dims.items() if not wanted.isdisjoint(leaves_of(dims))}
    return {node.name for node in found.dims if node in having or not having.isdisjoint(node.all_input_nodes)}


def _as_dict(group: Group, saving: tuple[int, int] | None) -> dict[str, Any]:
    return {
        "name": group.name,
        "kind": group.kind,
        "size": group.size,
        "frozen": bool(why_frozen(group)),
        "reason": why_frozen(group),
        "exact": group.exact,
        "note": group.note,
        "least": group.least,
        "members": [{"parameter": member.parameter, "dim": member.dim} for member in group.members],
        "parameters_per_index": None if saving is None else saving[0],
        "macs_per_index": None if saving is None else saving[1],
    }
