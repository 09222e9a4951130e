"""Where the indices of a leaf lie along an axis that it is a part of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sparsify.axes.axis import Axis, find

__all__ = ["by_leaf", "positions", "terms"]


def positions(axis: Axis, leaf: Axis) -> Tensor:
    """Return for every index of an axis the index of a leaf that it is made of, or -1; shape [rows, size of the axis].

    There are several rows where the leaf is a factor of the axis more than once.
    """
    axis = find(axis)
    if axis.kind == "leaf":
        return torch.arange(axis.size)[None] if axis is find(leaf) else torch.empty(0, axis.size, dtype=torch.int64)
    parts = [positions(part, leaf) for part in axis.parts]
    if axis.kind == "sum":
        rows = max(len(part) for part in parts)
        return torch.cat([torch.nn.functional.pad(part, (0, 0, 0, rows - len(part)), value=-1) for part in parts], 1)
    sizes = [part.size for part in axis.parts]
    found = []
    for index, part in enumerate(parts):
        before, after = math.prod(sizes[:index]), math.prod(sizes[index + 1 :])
        found.append(part.repeat_interleave(after, 1).repeat(1, before))
    return torch.cat(found)


def by_leaf(
    axis: Axis, values: Tensor, combine: Callable[[Tensor, list[int]], Tensor]
) -> Iterator[tuple[Axis, Tensor]]:
    """Yield the leaves of an axis, each with values for its indices; a leaf that occurs twice is given twice.

    Args:
        axis: what the values lie along.
        values: one for each index of the axis; shape [size].
        combine: makes one value of all those that belong to the same index of a leaf, along some dimensions.
    """
    axis = find(axis)
    if axis.kind == "leaf":
        yield axis, values
    elif axis.kind == "sum":
        for part, chunk in zip(axis.parts, torch.split(values, [part.size for part in axis.parts]), strict=True):
            yield from by_leaf(part, chunk, combine)
    else:
        grid = values.view([part.size for part in axis.parts])
        for dim, part in enumerate(axis.parts):
            yield from by_leaf(part, combine(grid, [d for d in range(grid.ndim) if d != dim]), combine)


def terms(axis: Axis) -> list[tuple[Axis, ...]]:
    """Write the size of an axis as a sum of products of leaves; a term that occurs twice is given twice."""
    axis = find(axis)
    if axis.kind == "leaf":
        return [(axis,)]
    found = [terms(part) for part in axis.parts]
    if axis.kind == "sum":
        return list(itertools.chain.from_iterable(found))
    return [tuple(itertools.chain.from_iterable(choice)) for choice in itertools.product(*found)]
