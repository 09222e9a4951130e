"""Amounts: how much of each weight goes, for every way of allocation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sparsify.allocation import counts, erdos_renyi, smart_ratios, uniform
from sparsify.observation.calibration import Calibration
from sparsify.program import Program
from sparsify.pruning.candidates import Candidates
from sparsify.pruning.choice import chosen
from sparsify.pruning.tables import densities_of, read_table
from sparsify.pruning.weight_masks import Shaper
from sparsify.pruning.weight_scores import weight_scores

__all__ = ["Allocation", "Amounts", "rounded"]

Allocation: TypeAlias = Literal["uniform", "global", "lamp", "snip-ratios", "er", "erk", "smart", "table"]

_RANKED = {"global": "magnitude", "lamp": "lamp", "snip-ratios": "snip"}


@dataclass(frozen=True)
class Amounts:
    """Says how much of each weight goes.

    Attributes:
        program: before anything goes.
        shaper: knows their sizes, and makes masks.
        found: the weights.
        calibration: for allocations that follow a ranking.
        allocation: the way.
        half: whether last layers are pruned half as much.
        table: the file of a table.
    """

    program: Program
    shaper: Shaper
    found: Candidates
    calibration: Calibration
    allocation: Allocation = "uniform"
    half: bool = False
    table: str = ""

    def of(self, sparsity: float | None) -> dict[str, int]:
        """Return for each weight how much of it goes when `sparsity` of all should.

        Raises:
            PassError: the table does not fit.
        """
        names = list(self.shaper.layouts)
        sizes = {name: self.shaper.size(name) for name in names}
        if self.allocation == "table":
            densities = densities_of(read_table(self.table), sizes, sparsity)
            total = rounded(sum(sizes[name] * (1 - densities[name]) for name in names))
            return dict(
                zip(names, counts([densities[name] for name in names], list(sizes.values()), total), strict=True)
            )
        assert sparsity is not None
        total = rounded(sparsity * sum(sizes.values()))
        if self.allocation in _RANKED:
            return self._ranked(names, total)
        found = self._densities(names, list(sizes.values()), 1 - sparsity)
        return dict(zip(names, counts(found, list(sizes.values()), total), strict=True))

    def _ranked(self, names: Sequence[str], total: int) -> dict[str, int]:
        criterion = chosen(_RANKED[self.allocation], "weights", self.program, self.calibration)
        gone = {name: mask for name, mask in self.program.masks.items() if name in self.shaper.layouts}
        scored = weight_scores(self.program, names, criterion, self.calibration, gone)
        return self.shaper.shares(scored, total)

    def _densities(self, names: Sequence[str], sizes: Sequence[int], density: float) -> list[float]:
        if self.allocation in ("er", "erk"):
            shapes = [self._fans(name) for name in names]
            return erdos_renyi(shapes, sizes, density, kernel=self.allocation == "erk")
        if self.allocation == "smart":
            return smart_ratios(sizes, density)
        return uniform(sizes, density, [0.5 if self.half and name in self.found.last else 1.0 for name in names])

    def _fans(self, name: str) -> list[int]:
        """Return outputs, inputs and the sizes of the kernel of a weight."""
        layout, shape = self.shaper.layouts[name], self.shaper.shapes[name]
        kernel = [shape[dim] for dim in (*layout.outputs[1:], *layout.kernel)]
        return [shape[layout.outputs[0]], math.prod(shape[dim] for dim in layout.inputs), *kernel]


def rounded(value: float) -> int:
    """Round to the nearest whole number, halves up."""
    return math.floor(value + 0.5 + 1e-9)
