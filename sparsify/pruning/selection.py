"""Selection: from scores and a goal to what each group keeps.

The goal is a fraction of the channels, of the multiply-accumulates or of the parameters. Counts are exact and ties
are broken by order, so that the same scores always give the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sparsify.axes import Axis
from sparsify.errors import PassError
from sparsify.pruning.floors import Floor
from sparsify.pruning.widths import Widths

__all__ = ["Goal", "Selection"]

Sizes = dict[Axis, int]

_CLOSE = 0.002  # of the dense count: nearer than this to the target nothing more is tried
_TRIES = 64


@dataclass(frozen=True)
class Goal:
    """What should be reached.

    Attributes:
        kind: sparsity is the fraction of the channels that goes; macs and params are the fraction that is left.
        value: the fraction.
    """

    kind: Literal["sparsity", "macs", "params"]
    value: float


class Selection:
    """Chooses how many indices each group keeps, and which.

    Args:
        floors: the allowed sizes of each group, in the order of the program.
        widths: counts what sizes cost.
        goal: what should be reached.
        scope: the same fraction of every group, or the lowest scores of all.
        costs: for each group the cost of each of its steps, rising; the cheapest goes first, whatever the scope.
    """

    def __init__(
        self,
        floors: Mapping[Axis, Floor],
        widths: Widths,
        goal: Goal,
        scope: Literal["uniform", "global"],
        costs: Mapping[Axis, Tensor] | None = None,
    ) -> None:
        self._own_costs = costs
        self._floors = floors
        self._goal = goal
        self._scope = scope
        count = {"macs": widths.macs, "params": widths.parameters, "sparsity": self._channels}[goal.kind]
        self._count: Callable[[Sizes], int] = count
        self._dense = count({})
        self._sizes: Sizes = {}

    def record(self) -> dict[str, Any]:
        """Return what was reached, for the report."""
        left = self._count(self._sizes) / max(1, self._dense)
        return {
            "asked": {self._goal.kind: self._goal.value},
            "reached": 1 - left if self._goal.kind == "sparsity" else left,
        }

    def choose(self, scores: Mapping[Axis, Tensor], share: float) -> dict[Axis, Tensor]:
        """Return what every group that loses something keeps.

        Args:
            scores: for each group a score for each index, minus infinity for one that is gone; higher is better.
            share: the part of the way to the goal that should be reached now, 1 for all of it.

        Raises:
            PassError: the goal cannot be reached within the limits.
        """
        left = 1 - self._goal.value if self._goal.kind == "sparsity" else self._goal.value
        target = (1 - share * (1 - left)) * self._dense
        self._sizes = self._reach(self._steps(scores), target)
        keep = {}
        for axis, size in self._sizes.items():
            order = torch.argsort(scores[axis], descending=True, stable=True)
            keep[axis] = torch.zeros(len(order), dtype=torch.bool)
            keep[axis][order[:size]] = True
        return {axis: kept for axis, kept in keep.items() if not bool(kept.all())}

    def _channels(self, sizes: Sizes) -> int:
        return sum(sizes.get(axis, floor.size) for axis, floor in self._floors.items())

    def _steps(self, scores: Mapping[Axis, Tensor]) -> _Steps:
        """Return the sizes that groups take one after the other on the way from dense to the smallest."""
        if self._own_costs is not None:
            return _Steps(self._floors, [self._own_costs[axis] for axis in self._floors])
        if self._scope == "global":
            return _Steps(self._floors, [_costs(scores[axis], floor) for axis, floor in self._floors.items()])
        return _Steps(self._floors, list(map(_levels, self._floors.values())))

    def _reach(self, steps: _Steps, target: float) -> Sizes:
        """Take as few steps as reach the target; of the last two results the nearer one."""
        low, high = 0, len(steps)
        least = self._count(steps.after(high))
        if least > target + 1e-6 * self._dense:
            left = math.ceil(1000 * least / max(1, self._dense)) / 1000  # rounded to what can be reached
            best = f"{1 - left:.3f} is the most" if self._goal.kind == "sparsity" else f"{left:.3f} is the least"
            raise PassError(
                f"{self._goal.kind}={self._goal.value} cannot be reached: {best} that max_sparsity, minimum, round_to, "
                "units and protect allow. Loosen one of them."
            )
        while low < high:
            middle = (low + high) // 2
            if self._count(steps.after(middle)) <= target:
                high = middle
            else:
                low = middle + 1
        return self._nearest(steps, low, target)

    def _nearest(self, steps: _Steps, reached: int, target: float) -> Sizes:
        """Return the sizes nearest to the target: those that reach it, or those before with some smaller step more."""
        best = steps.after(reached)
        gap = abs(self._count(best) - target)
        sizes = steps.after(max(0, reached - 1))
        for step in [{}, *steps.between(reached, reached + _TRIES)]:
            if gap <= _CLOSE * self._dense:
                break
            tried = {**sizes, **step}
            left = self._count(tried)
            if abs(left - target) < gap:
                best, gap = tried, abs(left - target)
            if left > target:
                sizes = tried
        return best


class _Steps:
    """The order in which groups get smaller, each by one step of its own at a time.

    Args:
        floors: the allowed sizes of each group.
        costs: for each group a rising cost for each of its steps; the cheapest step of all comes first.
    """

    def __init__(self, floors: Mapping[Axis, Floor], costs: list[Tensor]) -> None:
        self._axes = list(floors)
        self._floors = list(floors.values())
        owner = torch.repeat_interleave(torch.tensor([len(cost) for cost in costs], dtype=torch.int64))
        self._order = owner[torch.cat(costs).sort(stable=True).indices]

    def __len__(self) -> int:
        return len(self._order)

    def after(self, count: int) -> Sizes:
        """Return the sizes of the groups that have changed after so many steps."""
        taken = self._order[:count].bincount(minlength=len(self._axes)).tolist()
        changed = [(index, times) for index, times in enumerate(taken) if times]
        return {self._axes[index]: self._floors[index].after(times) for index, times in changed}

    def between(self, start: int, end: int) -> list[Sizes]:
        """Return some steps one by one."""
        taken = self._order[:start].bincount(minlength=len(self._axes)).tolist()
        found = []
        for index in self._order[start:end].tolist():
            taken[index] += 1
            found.append({self._axes[index]: self._floors[index].after(taken[index])})
        return found


def _levels(floor: Floor) -> Tensor:
    """Return the sparsity at which a group takes each of its steps: halfway between the sizes before and after."""
    if not floor.steps:
        return torch.empty(0, dtype=torch.float64)
    sizes = torch.arange(floor.after(1), floor.after(floor.steps) - 1, -floor.step, dtype=torch.float64)
    before = torch.cat([sizes.new_tensor([floor.size]), sizes[:-1]])
    return 1 - (sizes + before) / 2 / floor.size


def _costs(scores: Tensor, floor: Floor) -> Tensor:
    """Return the mean score of what goes in each step of a group when the lowest scores go first."""
    ranked = scores.sort().values
    if not floor.steps:
        return ranked[:0]
    first = floor.size - floor.after(1)
    others = ranked[first : floor.size - floor.after(floor.steps)].view(-1, floor.step)
    return torch.cat([ranked[:first].mean()[None], others.mean(1)])
