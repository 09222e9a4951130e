"""The pass `shrink`: remove what masks made removable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from sparsify.axes import Axis, axes
from sparsify.axes.masks import masks_of
from sparsify.axes.resize import Keep, Resizing, resized
from sparsify.axes.zeros import Flow
from sparsify.groups import groups_of
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.pruning.constants import Constants

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
        masks = masks_of(found)
        if not masks:
            context.record["removed"] = {}
            return program
        dead = {node: mask.dead() for node, mask in masks.items()}
        groups = groups_of(found)
        least = {group.axis: group.least for group in groups}
        flow, constants = Flow(found, dead.get), None
        keep, rest = _kept(dead, flow, least)
        if rest:  # not zero where it is read, but perhaps the same for every input
            constants = Constants(found, flow)
            keep, _ = _kept(dead, Flow(found, dead.get, constants.absorbed), least)
        context.record["removed"] = {
            group.name: f"{group.size} -> {int(keep[group.axis].sum())}" for group in groups if group.axis in keep
        }
        resizing = Resizing(found, keep)
        without: dict[fx.Node, fx.Node | None] = {}
        for node, mask in masks.items():
            if mask.keeps_all(resizing):
                without |= {node: node.all_input_nodes[1], node.all_input_nodes[0]: None}
        smaller = resized(found, keep, without)
        return constants.fold(smaller, keep) if constants else smaller


def _kept(masks: Mapping[fx.Node, Mapping[Axis, Tensor]], flow: Flow, least: dict[Axis, int]) -> tuple[Keep, bool]:
    """Return what is kept of each leaf that loses something, and whether something masked could not be removed.

    Some masked weight must speak for each loss.
    """
    touched: dict[Axis, Tensor] = {}
    for zeros in masks.values():
        for leaf, dead in zeros.items():
            touched[leaf] = touched[leaf] | dead if leaf in touched else dead
    keep, rest = {}, False
    for leaf, dead in touched.items():
        gone = dead & flow.removable.get(leaf, True)
        rest = rest or not torch.equal(gone, dead)
        kept = ~gone
        if missing := max(0, least.get(leaf, 1) - int(kept.sum())):
            kept[gone.nonzero().flatten()[:missing]] = True
        if not bool(kept.all()):
            keep[leaf] = kept
    return keep, rest
