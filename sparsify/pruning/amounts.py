"""Amounts: how much of each weight goes, for every way of allocation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from sparsify.allocation import counts, erdos_renyi, smart_ratios, uniform
from sparsify.layers import layers
from sparsify.observation.calibration import Calibration
from sparsify.program import Program
from sparsify.pruning.candidates import Candidates
from sparsify.pruning.choice import chosen
from sparsify.pruning.ranking import Scored
from sparsify.pruning.tables import densities_of, read_table
from sparsify.pruning.weight_masks import Shaper
from sparsify.pruning.weight_rounds import in_rounds
from sparsify.schedules import sparsities

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
        ratios: a criterion whose ranking allocates, instead of `allocation`.
    """

    program: Program
    shaper: Shaper
    found: Candidates
    calibration: Calibration
    allocation: Allocation = "uniform"
    half: bool = False
    table: str = ""
    ratios: str = ""

    def of(self, sparsity: float | None) -> dict[str, int]:
        """Return for each weight how much of it goes when `sparsity` of all should.

        Raises:
            PassError: the table does not fit.
        """
        names = list(self.shaper.layouts)
        sizes = {name: self.shaper.size(name) for name in names}
        ranking = self.ratios or _RANKED.get(self.allocation)
        if self.allocation == "table":
            densities = densities_of(read_table(self.table), sizes, sparsity)
            total = rounded(sum(sizes[name] * (1 - densities[name]) for name in names))
            return dict(
                zip(names, counts([densities[name] for name in names], list(sizes.values()), total), strict=True)
            )
        assert sparsity is not None
        total = rounded(sparsity * sum(sizes.values()))
        if ranking is not None:
            return self._ranked(names, ranking, sparsity)
        found = self._densities(names, list(sizes.values()), 1 - sparsity)
        return dict(zip(names, counts(found, list(sizes.values()), total), strict=True))

    def _ranked(self, names: Sequence[str], ranking: str, sparsity: float) -> dict[str, int]:
        """Return how much of each goes when the lowest of all go, in as many rounds as the criterion wants."""
        criterion = chosen(ranking, "weights", self.program, self.calibration)
        shares = sparsities("exponential", sparsity, criterion.rounds)
        masks = in_rounds(self.program, names, criterion, self.calibration, shares=shares, choose=self._lowest)
        return {name: mask.numel() - int(mask.count_nonzero()) for name, mask in masks.items()}

    def _lowest(self, scored: Iterable[Scored], share: float | None, _: Mapping[str, Tensor]) -> dict[str, Tensor]:
        sizes = sum(map(self.shaper.size, self.shaper.layouts))
        return self.shaper.together(scored, rounded((share or 0.0) * sizes))

    def _densities(self, names: Sequence[str], sizes: Sequence[int], density: float) -> list[float]:
        if self.allocation in ("er", "erk"):
            shapes = [self._fans(name) for name in names]
            return erdos_renyi(shapes, sizes, density, kernel=self.allocation == "erk")
        if self.allocation == "smart":
            return self._by_depth(names, sizes, density)
        return uniform(sizes, density, [0.5 if self.half and name in self.found.last else 1.0 for name in names])

    def _by_depth(self, names: Sequence[str], sizes: Sequence[int], density: float) -> list[float]:
        """Return smart ratios for the order in which layers come in the graph, whatever that of their names."""
        known = {layer.parameter: place for place, layer in reversed([*enumerate(layers(self.program))])}
        order = sorted(range(len(names)), key=lambda i: known.get(names[i], -1))  # what no layer reads comes first
        found = dict(zip(order, smart_ratios([sizes[i] for i in order], density), strict=True))
        return [found[i] for i in range(len(names))]

    def _fans(self, name: str) -> list[int]:
        """Return outputs, inputs and the sizes of the kernel of a weight."""
        layout, shape = self.shaper.layouts[name], self.shaper.shapes[name]
        kernel = [shape[dim] for dim in (*layout.outputs[1:], *layout.kernel)]
        return [shape[layout.outputs[0]], math.prod(shape[dim] for dim in layout.inputs), *kernel]


def rounded(value: float) -> int:
    """Round to the nearest whole number, halves up."""
    return math.floor(value + 0.5 + 1e-9)
