"""Wiring: which units of which layers read a unit that a layer writes, through everything that lies between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from sparsify.axes import Axes, Axis
from sparsify.axes.axis import find, leaves, product
from sparsify.axes.inference import leaves_of
from sparsify.axes.positions import positions
from sparsify.layers import Layer, layers
from sparsify.layout import Layout

__all__ = ["Link", "Stage", "link", "stages", "units"]

SIZES = (int, float, torch.SymInt, torch.SymFloat)  # what depends on the shape of a value alone is not made of it


@dataclass(eq=False)
class Stage:
    """A layer between others.

    Attributes:
        layer: the layer.
        reads: the axis whose indices are the units that it reads.
        writes: the axis whose indices are the units that it writes.
        first: it reads an input of the program, perhaps through operators without a weight.
        last: the program returns what it writes, perhaps through such operators.
        after: the stages that read what it writes, by their numbers.
    """

    layer: Layer
    reads: Axis
    writes: Axis
    first: bool = False
    last: bool = False
    after: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Link:
    """For every unit of one axis the units of another that it is: `units[start[i] : start[i] + count[i]]`."""

    start: Tensor
    count: Tensor
    units: Tensor

    def follow(self, unit: Tensor, chance: Tensor) -> Tensor:
        """Return one of the units that each of some units is, by chances in [0, 1)."""
        step = (chance * self.count[unit]).long().minimum(self.count[unit] - 1)
        return self.units[self.start[unit] + step]


def stages(found: Axes) -> list[Stage]:
    """Return the layers of a program in order, each with those that read what it writes.

    Layers of one recurrent operator follow each other in the order of its weights.
    """
    result = [Stage(layer, *_axes(layer, found)) for layer in layers(found.program)]
    at: dict[fx.Node, list[int]] = {}
    for number, stage in enumerate(result):
        at.setdefault(stage.layer.node, []).append(number)
    for node in found.program.graph.nodes:
        if node.op == "placeholder":
            for number in _reached(node, at, result, found)[0]:
                result[number].first = True
    for node, numbers in at.items():
        reached, ends = _reached(node, at, result, found)
        for number in numbers:
            stage = result[number]
            within = [o for o in numbers if o > number and _shared(leaves(stage.writes), result[o].reads)]
            stage.last, stage.after = ends, within + reached
    return result


def link(one: Axis, other: Axis) -> Link:
    """Return which indices of another axis the indices of one axis are, by the leaves that both are made of.

    Axes without a common leaf are linked everywhere: something between them mixes all units.
    """
    if find(one) is find(other):
        count = torch.ones(one.size, dtype=torch.int64)
        return Link(torch.arange(one.size), count, torch.arange(other.size))
    fits = torch.ones(one.size, other.size, dtype=torch.bool)
    common = torch.zeros_like(fits)
    shared = _shared(leaves(one), other)
    for leaf in shared:
        a, b = positions(one, leaf)[0][:, None], positions(other, leaf)[0][None]
        both = (a >= 0) & (b >= 0)
        common |= both
        fits &= (a == b) | ~both
    pairs = (fits & common if shared else fits).nonzero()
    count = torch.bincount(pairs[:, 0], minlength=one.size)
    return Link(count.cumsum(0) - count, count, pairs[:, 1])


def units(layout: Layout, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return for every weight of a tensor, flattened, the unit that it reads and the unit that it writes."""
    place = layout.matrices(torch.arange(math.prod(shape)).view(*shape))
    groups, outputs, inputs = place.shape
    group = torch.arange(groups)[:, None, None] * (0 if layout.batch else 1)
    positions_in = math.prod(shape[dim] for dim in layout.kernel)
    positions_out = math.prod(shape[dim] for dim in layout.outputs[1:])
    read = (group * inputs + torch.arange(inputs)) // positions_in
    written = (group * outputs + torch.arange(outputs)[:, None]) // positions_out
    found = []
    for unit in (read, written):
        flat = torch.empty(place.numel(), dtype=torch.int64)
        flat[place.reshape(-1)] = unit.expand(place.shape).reshape(-1)
        found.append(flat)
    return found[0], found[1]


def _axes(layer: Layer, found: Axes) -> tuple[Axis, Axis]:
    if layer.x is not None:
        kernel = len(layer.layout.kernel) or len(layer.layout.outputs) - 1
        return found.dims[layer.x][-1 - kernel], found.dims[layer.node][-1 - kernel]
    own = next(dims for node, dims in found.dims.items() if node.op == "get_attr" and node.target == layer.parameter)
    return product([own[dim] for dim in layer.layout.inputs]), product([own[dim] for dim in layer.layout.outputs])


def _reached(
    start: fx.Node, at: Mapping[fx.Node, Sequence[int]], known: Sequence[Stage], found: Axes
) -> tuple[list[int], bool]:
    """Follow a value through operators without a weight; return the stages that read it, and if it is returned."""
    reached: dict[int, None] = {}
    ends, seen, rest = False, {start}, [start]
    while rest:
        value = rest.pop()
        for user in value.users:
            ends |= user.op == "output"
            reading = [number for number in at.get(user, ()) if _reads(known[number], value, found)]
            reached.update(dict.fromkeys(reading))
            if not reading and user not in seen and not isinstance(user.meta.get("val"), SIZES):
                seen.add(user)
                rest.append(user)
    return sorted(reached), ends


def _reads(stage: Stage, value: fx.Node, found: Axes) -> bool:
    if stage.layer.x is not None:
        return value is stage.layer.x
    return bool(_shared(leaves_of(found.dims[value]), stage.reads))


def _shared(some: Sequence[Axis], axis: Axis) -> list[Axis]:
    """Return the leaves of an axis that are among some leaves, those that it holds once."""
    own = leaves(axis)
    return [leaf for leaf in dict.fromkeys(own) if leaf in some and own.count(leaf) == 1]
