"""The pass `channel-prune`: decide which channels, heads, groups and experts go."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsify import verify
from sparsify.axes import Axes, Axis, axes
from sparsify.axes.resize import Keep, Resizing, resized
from sparsify.errors import ContractError, PassError, UsageError
from sparsify.groups import UNITS, Group, groups_of
from sparsify.masking import masked
from sparsify.observation.calibration import Calibration
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.pruning.choice import chosen, made
from sparsify.pruning.floors import Floor, floors
from sparsify.pruning.reference import member_masks, reference_outputs
from sparsify.pruning.scoring import group_scores
from sparsify.pruning.selection import Goal, Selection
from sparsify.pruning.tables import losses_of, read_table
from sparsify.pruning.widths import Widths
from sparsify.spec import nearest

__all__ = ["ChannelPrune"]


@dataclass(frozen=True)
class ChannelPrune(Pass):
    """Mask whole channels, attention heads, convolution groups or experts; `shrink` then removes them.

    What can only go together is one group: all parameter dimensions that a channel appears in, in every layer that
    shares it. In groups where masking is not the same as removing (a layer norm counts its channels, a router its
    experts) the indices are removed at once. Inputs and outputs keep their sizes; no group is emptied.

    Options:
        sparsity: which fraction of the channels goes.
        macs: prune until this fraction of the multiply-accumulates is left, as nearly as whole indices allow.
        params: prune until this fraction of the parameters is left, as nearly as whole indices allow.
        scope: uniform takes the same fraction of every group, global takes the lowest scores of all groups.
        table: a scan that `sparsify sensitivity --unit channels` wrote: groups are pruned where that costs least for
            what it saves, whatever the scope.
        criterion: what scores channels or their weights; `sparsify criteria` lists them.
        units: what may be pruned: channels, heads, head-dim, kv-groups, conv-groups, experts, stream, or all. Units
            that share a dimension multiply: half of the kv-groups and half of the heads in each is a quarter.
        round_to: the widths that are left are a multiple of this, so that kernels are fast.
        max_sparsity: the largest fraction of a group that may go.
        minimum: the smallest width of a group.
        protect: names or patterns (`encoder.*`) of groups, or of modules and parameters in them, that stay.
        rounds: prune in this many steps and score again after each.
        batches: how many training batches a criterion that needs data looks at.

    Reference: Li et al., "Pruning Filters for Efficient ConvNets", 2017; Fang et al., "DepGraph: Towards Any
    Structural Pruning", 2023; Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019.
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    sparsity: float | None = None
    macs: float | None = None
    params: float | None = None
    scope: Literal["uniform", "global"] = "uniform"
    table: str = ""
    criterion: str = "magnitude"
    units: tuple[str, ...] = ("channels", "heads", "kv-groups", "conv-groups")
    round_to: int = 1
    max_sparsity: float = 0.9
    minimum: int = 1
    protect: tuple[str, ...] = ()
    rounds: int = 1
    batches: int = 8

    def __post_init__(self) -> None:
        given = [name for name in ("sparsity", "macs", "params") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError(
                f"channel-prune takes one of sparsity, macs and params, not {' and '.join(given) or 'none of them'}."
            )
        if not 0 <= getattr(self, given[0]) <= 1 or self.sparsity == 1:
            raise UsageError(f"channel-prune: {given[0]}={getattr(self, given[0])} is not a fraction between 0 and 1.")
        if not 0 <= self.max_sparsity < 1:
            raise UsageError(f"channel-prune: max_sparsity={self.max_sparsity} is not in [0, 1).")
        for name in ("round_to", "minimum", "rounds", "batches"):
            if getattr(self, name) < 1:
                raise UsageError(f"channel-prune: {name}={getattr(self, name)} is less than 1.")
        for unit in self.units:
            if unit not in (*UNITS, "all"):
                known = ", ".join([*UNITS, "all"])
                raise UsageError(f"channel-prune: there is no unit {unit!r}{nearest(unit, UNITS)}. There are: {known}.")
        made(self.criterion)

    def run(self, program: Program, context: Context) -> Program:
        """Score the groups, choose what goes, and mask it."""
        found = axes(program)
        groups = self._eligible(groups_of(found))
        keep = self._decide(found, groups, context)
        context.record["groups"] = {
            group.name: f"{group.size} -> {int(keep[group.axis].sum())}" for group in groups if group.axis in keep
        }
        exact = {group.axis: keep[group.axis] for group in groups if group.exact and group.axis in keep}
        removed = {axis: kept for axis, kept in keep.items() if axis not in exact}
        context.record["removed_at_once"] = [group.name for group in groups if group.axis in removed]
        masks = member_masks(found, exact)
        if not removed:
            return masked(program, masks)
        smaller = resized(found, removed)
        context.proofs.append(lambda: _proof(found, removed, smaller, context.seed))
        resizing = Resizing(found, removed)
        return masked(smaller, {name: resizing.state(name, mask) for name, mask in masks.items()})

    def _eligible(self, groups: Sequence[Group]) -> list[Group]:
        names = {name: None for group in groups if not group.frozen for name in _names(group)}
        for pattern in self.protect:
            if not any(fnmatchcase(name, pattern) for name in names):
                inside = any(name.startswith(f"{pattern}.") for name in names)
                hint = f" (did you mean '{pattern}.*'?)" if inside else nearest(pattern, names)
                raise PassError(f"protect={pattern} matches no group{hint}. `sparsify inspect MODEL` lists them.")
        units = UNITS if "all" in self.units else self.units
        eligible = [
            group
            for group in groups
            if not group.frozen
            and group.kind in units
            and not any(fnmatchcase(name, pattern) for pattern in self.protect for name in _names(group))
        ]
        if not eligible:
            raise PassError(
                f"There is no group to prune with units={','.join(self.units)}. `sparsify inspect MODEL` lists the "
                "groups, and why others are frozen."
            )
        return eligible

    def _decide(self, found: Axes, groups: list[Group], context: Context) -> Keep:
        allowed = floors(groups, round_to=self.round_to, max_sparsity=self.max_sparsity, minimum=self.minimum)
        widths = Widths(found)
        costs = self._costs(groups, allowed, widths) if self.table else None
        selection = Selection(allowed, widths, self._goal(), self.scope, costs)
        calibration = Calibration(context.task, self.batches, context.seed)
        criterion = chosen(self.criterion, "channels", found.program, calibration)
        keep: dict[Axis, Tensor] = {}
        for number in range(1, self.rounds + 1):
            scores = group_scores(found, groups, keep, criterion, calibration)
            keep = selection.choose(scores, share=number / self.rounds)
        context.record.update(selection.record())
        return keep

    def _costs(self, groups: list[Group], allowed: Mapping[Axis, Floor], widths: Widths) -> dict[Axis, Tensor]:
        """Return what each step of each group costs for what it saves of what the goal counts."""
        table, kind = read_table(self.table), self._goal().kind
        saved = widths.savings(group.axis for group in groups)
        costs = {}
        for group in groups:
            floor = allowed[group.axis]
            sizes = [group.size, *(floor.after(step) for step in range(1, floor.steps + 1))]
            losses = losses_of(table, group.name, [1 - size / group.size for size in sizes])
            each = {"sparsity": 1, "params": saved[group.axis][0], "macs": saved[group.axis][1]}[kind]
            steps = zip(itertools.pairwise(losses), itertools.pairwise(sizes), strict=True)
            slopes = [(after - before) / ((many - few) * max(1, each)) for (before, after), (many, few) in steps]
            costs[group.axis] = torch.tensor(slopes, dtype=torch.float64).cummax(0).values
        return costs

    def _goal(self) -> Goal:
        if self.sparsity is not None:
            return Goal("sparsity", self.sparsity)
        return Goal("macs", self.macs) if self.macs is not None else Goal("params", self.params or 0.0)


def _names(group: Group) -> list[str]:
    """Return the names that a group can be protected by: its own, and those of its parameters and their modules."""
    parameters = dict.fromkeys(member.parameter for member in group.members)
    return [group.name, *parameters, *dict.fromkeys(name.rpartition(".")[0] for name in parameters)]


def _proof(found: Axes, removed: Keep, smaller: Program, seed: int) -> float:
    """Check what was removed at once against the whole program without those indices."""
    worst = 0.0
    for leaves in verify.trial_inputs(found.program, seed):
        expected, outputs = reference_outputs(found, removed, leaves), verify.outputs(smaller, leaves)
        for one, other in zip(expected, outputs, strict=True):
            gap = verify.difference(one, other)
            if not gap <= verify.tolerance(one):
                raise ContractError(f"What was removed at once is not what was masked: {gap:.2g} (relative).")
            worst = max(worst, gap)
    return worst
