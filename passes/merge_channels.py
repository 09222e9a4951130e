"""The pass `merge-channels`: channels that do nearly the same become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sparsify.axes import Axis, axes
from sparsify.errors import PassError, UsageError
from sparsify.groups import Group, groups_of
from sparsify.masking import masked
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.pruning.candidates import matches
from sparsify.pruning.reference import member_masks
from sparsify.reconstruction.merging import Mergeable, merged, why_not

__all__ = ["MergeChannels"]


@dataclass(frozen=True)
class MergeChannels(Pass):
    """Replace groups of similar channels by one channel each, and add up the weights with which they were read.

    Similar are channels whose layer's weights, with bias and the batch norm behind them, point the same way. The
    channels that are no longer read are masked; `shrink` removes them. No data is needed. Groups of plain channels
    that one layer makes are merged; the report says why others are not.

    Options:
        sparsity: which fraction of the channels of every group goes.
        method: mean puts the mean of a cluster in its place, cluster keeps the member with the largest weights.
        protect: names or patterns of modules and parameters whose groups stay.

    Reference: RoyChowdhury et al., "Reducing Duplicate Filters in Deep Neural Networks", 2017 (mean); Ayinde et al.,
    "Redundant Feature Pruning for Accelerated Inference in Deep Neural Networks", 2019 (cluster; the paper keeps a
    random member, and neither scales the weights that are added up).
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    sparsity: float
    method: Literal["mean", "cluster"] = "cluster"
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise UsageError(f"merge-channels: sparsity={self.sparsity} is not in [0, 1).")

    def run(self, program: Program, context: Context) -> Program:
        """Merge group by group, and mask what nobody reads any more."""
        found = axes(program)
        groups = [group for group in groups_of(found) if group.kind == "channels" and not group.frozen]
        known = {group.name: self._known(program, group) for group in groups}
        context.record["skipped"] = {name: reason for name, reason in known.items() if isinstance(reason, str)}
        mergeable = [item for item in known.values() if isinstance(item, Mergeable)]
        if not mergeable:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in list(context.record["skipped"].items())[:3])
            raise PassError(f"There is no group of channels to merge{f' ({reasons})' if reasons else ''}.")
        keep: dict[Axis, Tensor] = {}
        for item in mergeable:
            size = item.group.size
            count = max(item.group.least, size - int(self.sparsity * size + 0.5))
            if count < size:
                program, keep[item.group.axis] = merged(program, item, count, self.method)
        context.record["groups"] = {
            item.group.name: f"{item.group.size} -> {int(keep[item.group.axis].sum())}"
            for item in mergeable
            if item.group.axis in keep
        }
        gone = sum(int((~kept).sum()) for kept in keep.values())
        context.record["done"] = f"{gone} channels of {len(keep)} groups are merged into others"
        return masked(program, member_masks(found, keep))

    def _known(self, program: Program, group: Group) -> Mergeable | str:
        if not group.exact:
            return group.note
        if any(matches(member.parameter, self.protect) for member in group.members):
            return "it is protected"
        if any(member.parameter in program.masks for member in group.members):
            return "it is masked already; shrink first"
        return why_not(program, group)
