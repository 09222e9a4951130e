"""Signals: where the channels of a group, or what a block adds, can be seen and changed while a program runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, fx

from sparsify.axes import Axes
from sparsify.axes.axis import Axis, leaves
from sparsify.axes.positions import positions
from sparsify.blocks import Block
from sparsify.graph import state_only
from sparsify.groups import Group
from sparsify.observation.watching import Watched
from sparsify.program import Program

__all__ = ["BlockSignal", "GroupSignal", "Signal", "block_signals", "group_signals"]


class Signal(Protocol):
    """Channels that can be watched and scaled.

    Attributes:
        key: name of the group or block.
        size: how many channels there are.
    """

    @property
    def key(self) -> str:
        """Name of the group or block."""

    @property
    def size(self) -> int:
        """How many channels there are."""

    def look(self, watched: Watched, look: Callable[[Tensor], None]) -> None:
        """Have a function called with the channels `[N, size, ...]`, at each place where they can be seen."""

    def scale(self, watched: Watched, gate: Tensor) -> None:
        """Have every channel multiplied by its entry of `gate` `[size]`; zero takes it away."""


@dataclass(frozen=True, eq=False)
class _Place:
    """A value with channels: read by `reader`, or by everyone where that is None."""

    reader: fx.Node | None
    value: fx.Node
    dim: int
    index: Tensor

    def look(self, watched: Watched, look: Callable[[Tensor], None]) -> None:
        order = torch.argsort(self.index, stable=True)
        order = order[int((self.index < 0).sum()) :]
        count = int(self.index.max()) + 1
        plain = len(self.index) == len(order) == count and torch.equal(order, torch.arange(count))

        def seen(value: Tensor) -> None:
            channels = value.movedim(self.dim, 1) if self.dim > 1 else value if self.dim == 1 else value.transpose(0, 1)
            if not plain:
                channels = channels.index_select(1, order.to(value.device)).unflatten(1, (count, -1))  # type: ignore[no-untyped-call]
            look(channels)

        watched.look_at([self.value], seen)

    def scale(self, watched: Watched, gate: Tensor) -> None:
        def scaled(value: Tensor) -> Tensor:
            index = self.index.to(value.device)
            factors = torch.where(index < 0, 1.0, gate[index.clamp_min(0)])
            shape = [1] * value.ndim
            shape[self.dim] = -1
            return value * factors.to(value.dtype).view(shape)

        if self.reader is None:
            watched.result(self.value, scaled)
        else:
            watched.change(self.reader, self.value, scaled)


@dataclass(frozen=True, eq=False)
class GroupSignal:
    """The channels of a group as those who sum over them get them, behind norm and activation.

    Where nobody sums over them, they are taken where they are made.
    """

    key: str
    size: int
    places: Sequence[_Place]

    def look(self, watched: Watched, look: Callable[[Tensor], None]) -> None:
        """Have a function called with the channels `[N, size, ...]`, once for each value that holds them."""
        for place in {place.value: place for place in self.places}.values():
            place.look(watched, look)

    def scale(self, watched: Watched, gate: Tensor) -> None:
        """Have every channel multiplied by its entry of `gate` `[size]` wherever it is read."""
        for place in self.places:
            place.scale(watched, gate)


@dataclass(frozen=True, eq=False)
class BlockSignal:
    """What a block adds to its input, f(x) of x + f(x); the whole output where the shape changes."""

    key: str
    size: int
    entry: fx.Node | None
    exit: fx.Node
    dim: int

    def look(self, watched: Watched, look: Callable[[Tensor], None]) -> None:
        """Have a function called with the channels `[N, size, ...]`."""
        watched.look_at(
            [self.exit] if self.entry is None else [self.exit, self.entry],
            lambda after, before=0.0: look((after - before).movedim(self.dim, 1)),
        )

    def scale(self, watched: Watched, gate: Tensor) -> None:
        """Have every channel of f(x) multiplied by its entry of `gate` `[size]`, or all by a gate of one entry."""
        shape = [1] * self.exit.meta["val"].ndim
        shape[self.dim] = -1

        def scaled(after: Tensor, before: Tensor | float = 0.0) -> Tensor:
            return before + gate.to(after.dtype).view(shape) * (after - before)

        watched.result(self.exit, scaled, *([] if self.entry is None else [self.entry]))


def group_signals(axes: Axes, groups: Iterable[Group]) -> list[GroupSignal]:
    """Return for each group where its channels can be seen."""
    wanted = {group.axis: group for group in groups}
    places: dict[Axis, list[_Place]] = {axis: [] for axis in wanted}
    made: dict[Axis, list[_Place]] = {axis: [] for axis in wanted}
    fixed = state_only(axes.program.graph)
    for node, facts in axes.facts.items():
        for axis, values in facts.sums:
            for leaf in set(leaves(axis)) & wanted.keys():
                for value in dict.fromkeys(values):
                    places[leaf] += [] if value in fixed else _at(axes, leaf, value, node)
        for axis, role in facts.roles:
            if role == "made" and not isinstance(axes.dims[node], tuple):
                for leaf in set(leaves(axis)) & wanted.keys():
                    made[leaf] += _at(axes, leaf, node, None)
    return [GroupSignal(group.name, group.size, places[axis] or made[axis]) for axis, group in wanted.items()]


def block_signals(program: Program, blocks: Iterable[Block]) -> list[BlockSignal]:
    """Return for each block where what it adds can be seen; images have channels first, sequences last."""
    nodes = {node.name: node for node in program.graph.nodes}
    found = []
    for block in blocks:
        entry, exit_ = nodes[block.entry], nodes[block.exit]
        before, after = entry.meta["val"], exit_.meta["val"]
        dim = 1 if after.ndim > 3 else after.ndim - 1
        same = block.shortcut == "identity" and before.shape == after.shape
        found.append(BlockSignal(block.name, int(after.shape[dim]), entry if same else None, exit_, dim))
    return found


def _at(axes: Axes, leaf: Axis, value: fx.Node, reader: fx.Node | None) -> list[_Place]:
    """Return the dimension of a value that a leaf runs along; a value that has it twice is no signal."""
    dims = [(dim, axis) for dim, axis in enumerate(axes.dims[value]) if any(leaf is own for own in leaves(axis))]
    if len(dims) != 1:
        return []
    dim, axis = dims[0]
    held = value.meta["val"]
    if held.ndim < 2 or not held.is_floating_point():  # such as the numbers of experts
        return []
    rows = positions(axis, leaf)
    return [_Place(reader, value, dim, rows[0])] if len(rows) == 1 else []
