"""What two models differ in: module by module, and in what they compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from sparsify.cost import Cost, cost
from sparsify.inputs import fixed_batch
from sparsify.modules import Modules, Side, in_order
from sparsify.program import Program
from sparsify.renumbering import renumbered, same
from sparsify.verify import difference, outputs, signature, tolerance

__all__ = ["Difference", "Differences", "differences"]


@dataclass(frozen=True)
class Difference:
    """A module that is not the same in two models.

    Attributes:
        module: its name.
        before: how it is in the first; None where that has no such module.
        after: how it is in the second.
        moved: the largest change of a value, relative to the largest value before; None where shapes differ.
    """

    module: str
    before: Side | None
    after: Side | None
    moved: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Differences:
    """What two models differ in.

    Attributes:
        costs: of both.
        batches: how many examples their multiply-accumulates are those of: one, or as many as a model is fixed to.
        modules: that are not the same, in the order of the models.
        same: how many modules are the same, bit for bit.
        renumbered: blocks that have other numbers in the second: by their names there those in the first, which the
            modules have, too.
        gap: the largest relative difference of what they compute on the first model's example; None where inputs or
            outputs are of other sizes.
        equal: whether that is rounding.
    """

    costs: tuple[Cost, Cost]
    batches: tuple[int, int]
    modules: list[Difference]
    same: int
    renumbered: Mapping[str, str]
    gap: float | None
    equal: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def differences(before: Program, after: Program) -> Differences:
    """Compare two models: parameters by the names of their modules, and outputs on the first one's example.

    Blocks that have only got other numbers are compared with what they were.
    """
    one_fixed, two_fixed = fixed_batch(before), fixed_batch(after)
    batches = one_fixed or two_fixed or 1, two_fixed or one_fixed or 1
    first, second = Modules.of(before, batches[0]), Modules.of(after, batches[1])
    blocks = renumbered(first.parameters, second.parameters)
    second = second.renamed(blocks)
    names = in_order(list(first.values), list(second.values))
    found, alike = [], 0
    for name in names:
        one, two = first.values.get(name), second.values.get(name)
        if one is not None and two is not None and same(one, two):
            alike += 1
            continue
        found.append(Difference(name, first.side(name), second.side(name), _moved(one, two)))
    gap, equal = _computed(before, after)
    costs = cost(before, batches[0]), cost(after, batches[1])
    return Differences(costs, batches, found, alike, blocks, gap, equal)


def _moved(one: Mapping[str, Tensor] | None, two: Mapping[str, Tensor] | None) -> float | None:
    if one is None or two is None or one.keys() != two.keys():
        return None
    if any(value.shape != two[name].shape for name, value in one.items()):
        return None
    largest = max(float(value.abs().max()) if value.numel() else 0.0 for value in one.values())
    gaps = [(value.double() - two[name].double()).abs() for name, value in one.items() if value.numel()]
    return max((float(gap.max()) for gap in gaps), default=0.0) / (largest or 1.0)


def _computed(before: Program, after: Program) -> tuple[float | None, bool]:
    """Run both on the first one's example, if that fits the second."""
    if signature(before) != signature(after) or _inputs(before) != _inputs(after):
        return None, False
    leaves = before.example.leaves()
    pairs = list(zip(outputs(before, leaves), outputs(after, leaves), strict=True))
    gaps = [difference(one, other) for one, other in pairs]
    equal = all(gap <= tolerance(one) for gap, (one, _) in zip(gaps, pairs, strict=True))
    return max(gaps, default=0.0), equal


def _inputs(program: Program) -> list[tuple[str, str]]:
    return [
        (node.name, program.spelled(str(getattr(node.meta.get("val"), "shape", "")))) for node in program.placeholders
    ]
