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
        keep = _kept(found, masks, flow)
        context.record["removed"] = {
            group.name: f"{group.size} -> {int(keep[group.axis].sum())}"
            for group in groups_of(found)
            if group.axis in keep
        }
        smaller = constants.fold(resized(found, keep), keep)
        return _without_full_masks(smaller)


def _mask_zeros(found: Axes) -> dict[fx.Node, dict[Axis, Tensor]]:
    """Return for every mask node along which leaves the masked weight is zero, and where."""
    zeros = {}
    for node in mask_nodes(found.program.graph):
        mask, _, base = (node.args[0], node.args[1], node.args[2])
        if not (base == 0 and isinstance(mask, fx.Node) and mask.target in found.program.buffers):
            continue
        kept = found.program.buffers[str(mask.target)].cpu()
        dims = found.dims[node]
        alive = [kept.movedim(dim, 0).reshape(kept.shape[dim], -1).any(1) for dim in range(kept.ndim)]
        zeros[node] = {leaf: _dead(leaf, dims, alive) for leaf in free_leaves(dims)}
    return zeros


def _dead(leaf: Axis, dims: list[Axis], alive: list[Tensor]) -> Tensor:
    """Return where a leaf has no weight left in any of the dimensions that it is in."""
    dead = torch.ones(leaf.size, dtype=torch.bool)
    for axis, living in zip(dims, alive, strict=True):
        for row in positions(axis, leaf):
            dead[row[living & (row >= 0)]] = False
    return dead


def _kept(found: Axes, masks: dict[fx.Node, dict[Axis, Tensor]], flow: Flow) -> Keep:
    """Return what is kept of each leaf that loses something: some masked weight must speak for each loss."""
    touched: dict[Axis, Tensor] = {}
    for zeros in masks.values():
        for leaf, dead in zeros.items():
            touched[leaf] = touched[leaf] | dead if leaf in touched else dead
    least = {group.axis: group.least for group in groups_of(found)}
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
    graph = program.copy_graph()
    for node in mask_nodes(graph):
        mask, weight = node.all_input_nodes[:2]
        if str(mask.target) in program.buffers and bool(program.buffers[str(mask.target)].all()):
            node.replace_all_uses_with(weight)
    return program.with_graph(graph)
