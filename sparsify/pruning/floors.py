"""Floors: the sizes that groups may be pruned to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparsify.axes import Axis
from sparsify.groups import Group

__all__ = ["Floor", "floors"]


@dataclass(frozen=True)
class Floor:
    """The sizes that a group may be pruned to.

    Attributes:
        size: of the group.
        step: kept indices are a multiple of this, or all of them.
        least: how many must be kept.
    """

    size: int
    step: int
    least: int

    @property
    def steps(self) -> int:
        """How often the group can get smaller."""
        return -(-(self.size - self.least) // self.step)

    def after(self, steps: int) -> int:
        """Return its size after it got smaller so many times."""
        return (-(-self.size // self.step) - steps) * self.step


def floors(groups: Sequence[Group], *, round_to: int, max_sparsity: float, minimum: int) -> dict[Axis, Floor]:
    """Return the sizes that options allow each group.

    Args:
        groups: all that are pruned together.
        round_to: what the dimensions of their members should be a multiple of, as far as they change.
        max_sparsity: the largest fraction of a group that may go.
        minimum: the smallest number of indices of a group that must stay.
    """
    steps = _steps(groups, round_to)
    found = {}
    for group in groups:
        wanted = max(1, minimum, group.least, math.ceil(group.size * (1 - max_sparsity) - 1e-9))
        step = steps.get(group.axis, 1)
        found[group.axis] = Floor(group.size, step, min(group.size, math.ceil(wanted / step) * step))
    return found


def _steps(groups: Sequence[Group], round_to: int) -> Mapping[Axis, int]:
    """Return what the size of each group must be a multiple of.

    Where a dimension is a product of several groups (heads times the width of a head), the largest that can answers
    for it: whatever becomes of the others, its own multiple is one of the whole.
    """
    steps: dict[Axis, int] = {group.axis: 1 for group in groups}
    members = {(member.parameter, member.dim): member for group in groups for member in group.members}
    for member in members.values() if round_to > 1 else ():
        for term, times in Counter(member.terms).items():
            fixed = times * math.prod(axis.size for axis in term if axis not in steps)
            for axis in sorted({axis for axis in term if axis in steps}, key=lambda axis: -axis.size):
                step = round_to // math.gcd(round_to, fixed)
                steps[axis] = math.lcm(steps[axis], step)
                if step < axis.size:
                    break
                fixed *= axis.size  # it is too small to be a multiple, and stays whole
    return steps
