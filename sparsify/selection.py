"""Selection: from scores and a goal to what each group keeps.

The goal is a fraction of the channels, of the multiply-accumulates or of the parameters. Counts are exact and ties
are broken by order, so that the same scores always give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import torch
from torch import Tensor

from sparsify.axes import Axis
from sparsify.errors import PassError
from sparsify.widths import Floor, Widths

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
    """

    def __init__(
        self, floors: Mapping[Axis, Floor], widths: Widths, goal: Goal, scope: Literal["uniform", "global"]
    ) -> None:
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
        steps = self._uniform_steps() if self._scope == "uniform" else self._global_steps(scores)
        self._sizes = self._reach(steps, target)
        keep = {}
        for axis, size in self._sizes.items():
            order = torch.argsort(scores[axis], descending=True, stable=True)
            keep[axis] = torch.zeros(len(order), dtype=torch.bool)
            keep[axis][order[:size]] = True
        return {axis: kept for axis, kept in keep.items() if not bool(kept.all())}

    def _channels(self, sizes: Sizes) -> int:
        return sum(sizes.get(axis, floor.size) for axis, floor in self._floors.items())

    def _uniform_steps(self) -> list[tuple[Axis, int]]:
        """Return the sizes that groups take one after the other when the sparsity of all rises from zero."""
        steps = []
        for order, (axis, floor) in enumerate(self._floors.items()):
            for size in range(floor.size - floor.size % floor.step, floor.least - 1, -floor.step):
                if size < floor.size:
                    middle = min(floor.size, size + floor.step)  # halfway from the size before
                    steps.append(((1 - (size + middle) / 2 / floor.size), order, axis, size))
        steps.sort(key=itemgetter(0, 1))
        return [(axis, size) for _, _, axis, size in steps]

    def _global_steps(self, scores: Mapping[Axis, Tensor]) -> list[tuple[Axis, int]]:
        """Return the sizes that groups take when indices go in the order of their scores."""
        entries = []
        for order, (axis, floor) in enumerate(self._floors.items()):
            ranked = scores[axis].sort(stable=True).values
            size = floor.size
            while size > floor.least:
                smaller = max(floor.least, (size - 1) // floor.step * floor.step)
                cost = float(ranked[floor.size - size : floor.size - smaller].mean())
                entries.append((cost, order, axis, smaller))
                size = smaller
        entries.sort(key=itemgetter(0, 1))
        return _decreasing([(axis, size) for _, _, axis, size in entries])

    def _reach(self, steps: list[tuple[Axis, int]], target: float) -> Sizes:
        """Take as few steps as reach the target; of the last two results the nearer one."""
        low, high = 0, len(steps)
        if self._count(_after(steps, high)) > target + 1e-6 * self._dense:
            left = self._count(_after(steps, high)) / max(1, self._dense)
            best = f"{1 - left:.3f} is the most" if self._goal.kind == "sparsity" else f"{left:.3f} is the least"
            raise PassError(
                f"{self._goal.kind}={self._goal.value} cannot be reached: {best} that max_sparsity, minimum, round_to, "
                "units and protect allow. Loosen one of them."
            )
        while low < high:
            middle = (low + high) // 2
            if self._count(_after(steps, middle)) <= target:
                high = middle
            else:
                low = middle + 1
        return self._nearest(steps, low, target)

    def _nearest(self, steps: list[tuple[Axis, int]], reached: int, target: float) -> Sizes:
        """Return the sizes nearest to the target: those that reach it, or those before with some smaller step more."""
        best = _after(steps, reached)
        gap = abs(self._count(best) - target)
        sizes = _after(steps, max(0, reached - 1))
        for axis, size in [(None, 0), *steps[reached : reached + _TRIES]]:
            if gap <= _CLOSE * self._dense:
                break
            tried = sizes if axis is None else {**sizes, axis: size}
            left = self._count(tried)
            if abs(left - target) < gap:
                best, gap = tried, abs(left - target)
            if left > target:
                sizes = tried
        return best


def _after(steps: list[tuple[Axis, int]], count: int) -> Sizes:
    return dict(steps[:count])


def _decreasing(steps: list[tuple[Axis, int]]) -> list[tuple[Axis, int]]:
    """Equal scores may come out of order: a group only ever gets smaller."""
    sizes: Sizes = {}
    found = []
    for axis, size in steps:
        if size < sizes.get(axis, size + 1):
            sizes[axis] = size
            found.append((axis, size))
    return found
