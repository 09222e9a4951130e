"""What the masks of a graph keep, along every axis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx

from sparsify.axes.axis import Axis
from sparsify.axes.inference import Axes
from sparsify.axes.positions import by_leaf
from sparsify.axes.resize import Resizing
from sparsify.axes.zeros import free_leaves
from sparsify.graph import mask_nodes

__all__ = ["Mask", "masks_of"]


def masks_of(found: Axes) -> dict[fx.Node, Mask]:
    """Return the masks of the graph by node; only those that leave zeros, each for one weight alone."""
    masks = {}
    for node in mask_nodes(found.program.graph):
        mask, _, base = (node.args[0], node.args[1], node.args[2])
        if base == 0 and isinstance(mask, fx.Node) and len(mask.users) == 1 and mask.target in found.program.buffers:
            name = str(mask.target)
            masks[node] = Mask(name, found.program.buffers[name], found.dims[node])
    return masks


class Mask:
    """What a mask keeps, looked at along every dimension.

    Args:
        name: of the mask.
        kept: the mask itself.
        dims: its axes.
    """

    def __init__(self, name: str, kept: Tensor, dims: list[Axis]) -> None:
        self._name, self._kept, self._dims = name, kept, dims
        for dim, stride in enumerate(kept.stride()):  # a mask of whole channels repeats itself along the kernel
            kept = kept if stride else kept.narrow(dim, 0, 1)
        plane = _some(kept, list(range(2, kept.ndim)))
        self._living = []
        for dim in range(kept.ndim):
            source = plane if dim < 2 else kept
            living = _some(source, [other for other in range(source.ndim) if other != dim])
            self._living.append(living.flatten().cpu())
        self._count = int(kept.count_nonzero())

    def dead(self) -> dict[Axis, Tensor]:
        """Return for the leaves of the weight where it has nothing left in any dimension that they are in."""
        dead: dict[Axis, Tensor] = {}
        for axis, living in zip(self._dims, self._living, strict=True):
            if free := free_leaves([axis]):
                for leaf, alive in by_leaf(axis, living.expand(axis.size), _some):
                    if leaf in free:
                        dead[leaf] = ~alive & dead[leaf] if leaf in dead else ~alive
        return dead

    def keeps_all(self, resizing: Resizing) -> bool:
        """Whether it keeps all that is left of the weight."""
        left = [resizing.kept(axis) for axis in self._dims]
        living = list(zip(self._living, left, strict=True))
        if any(kept is not None and len(alive) > 1 and bool((alive & ~kept).any()) for alive, kept in living):
            inside = resizing.state(self._name, self._kept)
            return not bool(_some(~inside, list(range(inside.ndim))))
        sizes = [resizing.size(axis) for axis, alive in zip(self._dims, self._living, strict=True) if len(alive) > 1]
        return self._count == math.prod(sizes)  # all that it keeps is left


def _some(kept: Tensor, dims: list[int]) -> Tensor:
    """Return whether any entry along some dimensions is true; the maximum of bytes is many times faster than `any`."""
    if not dims or not kept.numel():
        return kept.any(dims) if dims else kept
    return kept.view(torch.uint8).amax(dims).bool()
