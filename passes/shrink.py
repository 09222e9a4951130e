"""The pass `shrink`: remove what masks made removable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from sparsify.axes import Axes, Axis, axes
from sparsify.axes.axis import positions
from sparsify.axes.resize import Keep, resized
from sparsify.axes.zeros import Flow, free_leaves
from sparsify.constants import Constants
from sparsify.graph import mask_nodes
from sparsify.groups import groups_of
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program

__all__ = ["Shrink"]


@dataclass(frozen=True)
class Shrink(Pass):
    """Remove masked channels, heads, groups and experts: shrink(mask(P)) computes what mask(P) computes.

    An index of a group is removed if masks make all that reads it get zeros from it, whether the masks are on the
    weights that make it or on those that use it. Parameters, buffers, masks and all sizes in the graph get smaller. A
    constant that a masked channel leaves behind (its bias, through an activation) moves into the bias of the layer
    that reads it. Masks that hold nothing back any more disappear; other masks stay.
    """

    contract: ClassVar[Contract] = Contract.EXACT

    def run(self, program: Program, context: Context) -> Program:
        """Remove what can be removed."""
        found = axes(program)
        masks = _mask_zeros(found)
        if not masks:
            context.record["removed"] = {}
            return program
        plain = Flow(found, masks.get)
        constants = Constants(found, plain)
        flow = Flow(found, masks.get, constants.absorbed)
        groups = groups_of(found)
        keep = _kept(masks, flow, {group.axis: group.least for group in groups})
        context.record["removed"] = {
            group.name: f"{group.size} -> {int(keep[group.axis].sum())}" for group in groups if group.axis in keep
        }
        return _without_full_masks(constants.fold(resized(found, keep), keep))


def _mask_zeros(found: Axes) -> dict[fx.Node, dict[Axis, Tensor]]:
    """Return for every mask node along which leaves the masked weight is zero, and where."""
    zeros = {}
    for node in mask_nodes(found.program.graph):
        mask, _, base = (node.args[0], node.args[1], node.args[2])
        if not (base == 0 and isinstance(mask, fx.Node) and mask.target in found.program.buffers):
            continue
        kept = found.program.buffers[str(mask.target)]
        for dim, stride in enumerate(kept.stride()):  # a mask of whole channels repeats itself along the kernel
            kept = kept if stride else kept.narrow(dim, 0, 1)
        zeros[node] = _dead(kept.cpu(), found.dims[node])
    return zeros


def _dead(kept: Tensor, dims: list[Axis]) -> dict[Axis, Tensor]:
    """Return for the leaves of a masked weight where it has no weight left in any dimension that they are in."""
    plane = kept.flatten(2).any(2) if kept.ndim > 2 else kept
    dead: dict[Axis, Tensor] = {}
    for dim, axis in enumerate(dims):
        if not (free := free_leaves([axis])):
            continue
        source = plane if dim < 2 else kept
        others = [other for other in range(source.ndim) if other != dim]
        living = source.any(others) if others else source
        for leaf in free:
            gone = dead.setdefault(leaf, torch.ones(leaf.size, dtype=torch.bool))
            for row in positions(axis, leaf):
                gone[row[living.expand(axis.size) & (row >= 0)]] = False
    return dead


def _kept(masks: dict[fx.Node, dict[Axis, Tensor]], flow: Flow, least: dict[Axis, int]) -> Keep:
    """Return what is kept of each leaf that loses something: some masked weight must speak for each loss."""
    touched: dict[Axis, Tensor] = {}
    for zeros in masks.values():
        for leaf, dead in zeros.items():
            touched[leaf] = touched[leaf] | dead if leaf in touched else dead
    keep = {}
    for leaf, dead in touched.items():
        gone = dead & flow.removable.get(leaf, True)
        kept = ~gone
        if missing := max(0, least.get(leaf, 1) - int(kept.sum())):
            kept[gone.nonzero().flatten()[:missing]] = True
        if not bool(kept.all()):
            keep[leaf] = kept
    return keep


def _without_full_masks(program: Program) -> Program:
    """Take masks out that keep everything; the program is a new one, so that its graph may be edited."""
    for node in mask_nodes(program.graph):
        mask, weight = node.all_input_nodes[:2]
        if str(mask.target) in program.buffers and bool(program.buffers[str(mask.target)].all()):
            node.replace_all_uses_with(weight)
    return program.with_graph(program.graph)
