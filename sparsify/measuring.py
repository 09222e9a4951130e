"""Measuring: everything that criteria need is collected at once, and handed to them by weight, group or block."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sparsify import registry
from sparsify.blocks import Block
from sparsify.criteria import BlockStats, ChannelStats, WeightStats
from sparsify.errors import PassError
from sparsify.groups import Group, Member
from sparsify.layers import Layer, layers
from sparsify.layout import Layout
from sparsify.naming import first_names
from sparsify.norms import norm_scales
from sparsify.observation.subject import Subject
from sparsify.program import Program
from sparsify.statistics import Statistic, Streamed, stream

__all__ = ["Measured", "collect", "portions"]

_PACKAGE = "sparsify.statistics"


def _statistic(need: str) -> Statistic:
    entry = registry.find(_PACKAGE, need)
    made = getattr(importlib.import_module(entry.module), entry.class_name)()
    assert isinstance(made, Statistic)
    return made


def portions(subject: Subject, needs: Iterable[str], budget: int) -> Iterator[Subject]:
    """Divide the parameters of a subject into runs whose statistics fit into a budget of bytes together."""
    statistics = [_statistic(need) for need in needs]
    part: list[str] = []
    taken = 0
    for name in subject.parameters:
        cost = sum(statistic.bytes(subject, name) for statistic in statistics)
        if part and taken + cost > budget:
            yield subject.only(part)
            part, taken = [], 0
        part.append(name)
        taken += cost
    if part:
        yield subject.only(part)


def collect(subject: Subject, needs: Collection[str]) -> Measured:
    """Collect the statistics named in `needs`; those that can are taken in one run over the data.

    What was measured of the same subject on the same calibration before is not measured again.

    Raises:
        PassError: a statistic is not finite; the message names it and the parameter, group or block.
    """
    known = subject.calibration.known
    if known.get("program") is not subject.program or known["names"] != subject.names:
        known.clear()
        known.update(program=subject.program, names=subject.names)
    made = {need: _statistic(need) for need in dict.fromkeys(needs) if need not in known}
    streamed = {need: statistic for need, statistic in made.items() if isinstance(statistic, Streamed)}
    found: dict[str, Mapping[str, Tensor]] = {}
    if streamed:
        found.update(zip(streamed, stream(list(streamed.values()), subject), strict=True))
    for need, statistic in made.items():
        if need not in streamed:
            found[need] = statistic.measure(subject)
    _check_finite(found, subject.program)
    known.update(found)
    return Measured(subject.program, subject.calibration.seed, {need: known[need] for need in needs})


def _check_finite(found: Mapping[str, Mapping[str, Tensor]], program: Program) -> None:
    for need, values in found.items():
        for name, value in values.items():
            if not bool(torch.isfinite(value).all()):
                bad = [key for key, weight in program.parameters.items() if not bool(torch.isfinite(weight).all())]
                cause = f"The parameter {first_names(bad)} is not" if bad else "Check the data, the loss and the model"
                raise PassError(f"The statistic {need} of {name} is not finite. {cause}.")


@dataclass(frozen=True)
class Measured:
    """What was collected.

    Attributes:
        program: whose statistics they are.
        seed: of the criteria's randomness.
        found: by the name of the statistic, and then by that of the parameter, group or block.
    """

    program: Program
    seed: int
    found: Mapping[str, Mapping[str, Tensor]]

    def knows(self, name: str, needs: Iterable[str]) -> bool:
        """Whether all of some statistics are known of a parameter, group or block."""
        return all(name in self.found[need] for need in needs)

    def of_weight(self, name: str) -> WeightStats:
        """Return the statistics of one parameter."""
        weight = self.program.parameters[name]
        mask = self._masks.get(name)
        return WeightStats(
            weight=weight if mask is None else torch.where(mask, weight.detach(), 0.0),
            layout=self._layouts.get(name, Layout((0,), tuple(range(1, weight.ndim)))),
            generator=self._generator(name),
            found=self._about(name),
        )

    def of_channels(self, group: Group) -> ChannelStats:
        """Return the statistics of the channels of one group."""
        made: list[Tensor] = []
        used: list[Tensor] = []
        scales: list[Tensor] = []
        for member in group.members:
            rows = self._rows(member, group.size)
            if rows is None:
                continue
            layout = self._layouts.get(member.parameter)
            if layout is None:
                scales += [rows] if member.parameter in self._scales else []
            else:
                (used if member.dim in layout.inputs else made).append(rows)
        return ChannelStats(
            size=group.size, made=made, used=used, scales=scales,
            generator=self._generator(group.name), found=self._about(group.name),
        )  # fmt: skip

    def of_block(self, block: Block, size: int = 0) -> BlockStats:
        """Return the statistics of one block; its weights are its matrices and kernels, or all if it has none.

        Args:
            block: which one.
            size: how many channels it adds, if statistics of them were collected.
        """
        heavy = [name for name in block.parameters if self.program.parameters[name].ndim >= 2]
        generator, found = self._generator(block.name), self._about(block.name)
        return BlockStats(
            weights=[self.of_weight(name) for name in heavy or block.parameters],
            channels=ChannelStats(size=size, generator=generator, found=found) if size else None,
            generator=generator,
            found=found,
        )

    def _rows(self, member: Member, size: int) -> Tensor | None:
        """Return a parameter as one row for each channel; None where a position belongs to several channels."""
        if len(member.index) != 1:
            return None
        weight = self.of_weight(member.parameter).weight.detach()
        order = torch.argsort(member.index[0], stable=True)[int((member.index < 0).sum()) :]
        return weight.movedim(member.dim, 0)[order.to(weight.device)].reshape(size, -1)

    def _about(self, name: str) -> dict[str, Tensor]:
        return {need: values[name] for need, values in self.found.items() if name in values}

    def _generator(self, name: str) -> torch.Generator:
        seed = zlib.crc32(f"{self.seed} {name}".encode())  # a CPU generator looks at 32 bits of its seed only
        return torch.Generator().manual_seed(seed)

    @cached_property
    def _layouts(self) -> Mapping[str, Layout]:
        found: Sequence[Layer] = layers(self.program)
        return {layer.parameter: layer.layout for layer in reversed(found)}

    @cached_property
    def _masks(self) -> Mapping[str, Tensor]:
        return self.program.masks

    @cached_property
    def _scales(self) -> frozenset[str]:
        return norm_scales(self.program)
