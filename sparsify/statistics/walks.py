"""When random walks through a program come along a weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.axes import Axis, axes
from sparsify.axes.axis import find
from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.observation.wiring import Link, Stage, link, stages, units
from sparsify.statistics import Statistic

__all__ = ["Walks"]

WALKS = 64  # for each unit of the layers
_TOGETHER = 1 << 16  # walks


class Walks(Statistic):
    """How many of all walks had not yet set out when the first one came along a weight; 0 where none did.

    A walk starts at a random unit of a layer that reads an input, goes along one of the weights that read the unit
    with a probability proportional to |θ|, and on from the unit that the weight writes, in one of the layers that read
    it, to an output. Every other walk goes backward, from the outputs to the inputs. There are 64 walks for each unit
    that a layer writes.
    """

    data: ClassVar[Data] = "nothing"

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Walk."""
        program, found = subject.program, axes(subject.program)
        known = stages(found)
        masks = program.masks
        first: dict[str, Tensor] = {}
        strengths: dict[str, Tensor] = {}
        walks = 2 * max(1, WALKS * sum(stage.writes.size for stage in known) // 2)
        for name in {stage.layer.parameter for stage in known}:
            weight = program.parameters[name].detach()
            weight = torch.where(masks[name], weight, 0.0) if name in masks else weight
            strengths[name] = weight.abs().double().reshape(-1).cpu()
            first[name] = torch.full((weight.numel(),), walks)
        generator = torch.Generator().manual_seed(subject.calibration.seed)
        for backward in (False, True):
            way = list(_way(known, strengths, [program.parameters[s.layer.parameter].shape for s in known], backward))
            for start in range(0, walks // 2, _TOGETHER):
                numbers = torch.arange(start, min(start + _TOGETHER, walks // 2)) * 2 + backward
                _walk(way, numbers, first, generator)
        return {
            name: (walks - first[name]).double().view(program.parameters[name].shape)
            for name in subject.parameters
            if name in first
        }


@dataclass(frozen=True)
class _Step:
    """A layer on the way in one direction.

    Attributes:
        parameter: its weight.
        start: whether walks start here.
        size: how many units a walk may come to.
        ends: the highest chance, plus the number of the unit, for each weight in the order of the units.
        order: the places of the weights in that order.
        unit: the units where a walk comes to them, in that order.
        out: the units where the weights lead to.
        onward: the steps that may follow, with the units there.
        last: whether a walk may end here.
    """

    parameter: str
    start: bool
    size: int
    ends: Tensor
    order: Tensor
    unit: Tensor
    out: Tensor
    onward: Sequence[tuple[int, Link]]
    last: bool


def _way(
    known: Sequence[Stage], strengths: Mapping[str, Tensor], shapes: Sequence[Sequence[int]], backward: bool
) -> Iterator[_Step]:
    """Yield the layers in the order in which walks come to them."""
    count = len(known)
    before: list[list[int]] = [[] for _ in known]
    for number, stage in enumerate(known):
        for other in stage.after:
            before[other].append(number)
    links: dict[tuple[Axis, Axis], Link] = {}
    for place in range(count):
        number = count - 1 - place if backward else place
        stage, onward = known[number], []
        here = stage.reads if backward else stage.writes
        for other in before[number] if backward else stage.after:
            there = known[other].writes if backward else known[other].reads
            key = (find(here), find(there))
            links[key] = links.get(key) or link(here, there)
            onward.append((count - 1 - other if backward else other, links[key]))
        read, written = units(stage.layer.layout, shapes[number])
        entry, out = (written, read) if backward else (read, written)
        size = (stage.writes if backward else stage.reads).size
        order = entry.argsort(stable=True)
        name = stage.layer.parameter
        yield _Step(
            parameter=name,
            start=stage.last if backward else stage.first,
            size=size,
            ends=_ends(strengths[name], entry, order, size),
            order=order.int(),
            unit=entry[order].int(),
            out=out.int(),
            onward=onward,
            last=stage.first if backward else stage.last,
        )


def _ends(strength: Tensor, entry: Tensor, order: Tensor, size: int) -> Tensor:
    """Return for every weight, sorted by unit, the unit plus the share of its weights up to this one."""
    total = torch.zeros(size, dtype=torch.float64).index_add_(0, entry, strength)
    unit = entry[order]
    share = strength[order] / total[unit].clamp_min(1e-300)
    before = (total > 0).double().cumsum(0) - (total > 0).double()
    return unit + (share.cumsum(0) - before[unit]).clamp(0, 1)


def _walk(way: Sequence[_Step], numbers: Tensor, first: Mapping[str, Tensor], generator: torch.Generator) -> None:
    """Let some walks go, all of them one layer after the other."""

    def chance(count: int) -> Tensor:
        return torch.rand(count, generator=generator, dtype=torch.float64)

    starts = [index for index, step in enumerate(way) if step.start]
    if not starts:
        return
    coming: list[list[tuple[Tensor, Tensor]]] = [[] for _ in way]
    where = torch.randint(len(starts), numbers.shape, generator=generator)
    for choice, index in enumerate(starts):
        some = numbers[where == choice]
        coming[index].append((some, (chance(len(some)) * way[index].size).long()))
    for index, step in enumerate(way):
        if not coming[index]:
            continue
        walkers, at = (torch.cat(parts) for parts in zip(*coming[index], strict=True))
        taken = torch.searchsorted(step.ends, at + chance(len(at)), right=True)
        moved = taken < len(step.ends)
        moved &= step.unit[taken * moved] == at  # a unit whose weights are all zero leads nowhere
        walkers, weight = walkers[moved], step.order[taken[moved]].long()
        first[step.parameter].scatter_reduce_(0, weight, walkers, "amin")
        unit = step.out[weight].long()
        for other, link_, some in _parted(step, unit, chance(len(walkers))):
            coming[other].append((walkers[some], link_.follow(unit[some], chance(int(some.sum())))))


def _parted(step: _Step, unit: Tensor, chance: Tensor) -> Iterator[tuple[int, Link, Tensor]]:
    """Divide walks evenly among the ways that go on from their units; the end is one of them where there is one."""
    ways = [link_.count[unit] > 0 for _, link_ in step.onward]
    if not ways:
        return
    open_ = torch.stack([*ways, torch.full_like(ways[0], step.last)]).long().cumsum(0)
    choice = (chance * open_[-1]).long()
    for number, (other, link_) in enumerate(step.onward):
        some = ways[number] & (open_[number] - 1 == choice)
        if bool(some.any()):
            yield other, link_, some
