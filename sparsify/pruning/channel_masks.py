"""Masks that are made of whole channels: which groups they prune, and what these keep."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.axes import Axes, Axis, axes
from sparsify.axes.masks import masks_of
from sparsify.groups import Group, groups_of
from sparsify.masking import unmasked
from sparsify.program import Program
from sparsify.pruning.reference import member_masks

__all__ = ["kept_channels"]


def kept_channels(program: Program) -> tuple[Axes, Mapping[Group, Tensor]] | str:
    """Return the axes of the program without masks, and for each of its pruned groups what it keeps.

    Where the masks are not those of whole channels, returns the name of a parameter whose mask, or the lack of one, is
    not.
    """
    found = axes(program)
    dead: dict[Axis, Tensor] = {}
    for mask in masks_of(found).values():
        for leaf, gone in mask.dead().items():
            dead[leaf] = dead[leaf] | gone if leaf in dead else gone
    kept = {
        group.name: ~dead[group.axis]
        for group in groups_of(found)
        if group.axis in dead and group.exact and bool(dead[group.axis].any())
    }
    whole = axes(unmasked(program))
    groups = {group: kept[group.name] for group in groups_of(whole) if group.name in kept}
    expected = member_masks(whole, {group.axis: keep for group, keep in groups.items()})
    for name in {**program.masks, **expected}:
        if name not in expected or name not in program.masks or not torch.equal(expected[name], program.masks[name]):
            return name
    return whole, groups
