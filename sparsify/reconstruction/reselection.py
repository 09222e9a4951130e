"""Reselection: as many channels as the masks keep, but those that the layers that read them can best use."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sparsify.axes import Axis
from sparsify.errors import PassError
from sparsify.groups import Group
from sparsify.layers import layers
from sparsify.masking import masked
from sparsify.observation.calibration import Calibration
from sparsify.program import Program
from sparsify.pruning.channel_masks import kept_channels
from sparsify.pruning.reference import member_masks
from sparsify.reconstruction.channels import contributions, index_of
from sparsify.reconstruction.moments import moments

__all__ = ["reselected"]

Choose = Callable[[Tensor, int], Tensor]


def reselected(
    program: Program, whole: Program, choose: Choose, calibration: Calibration
) -> tuple[Program, dict[str, int]]:
    """Choose the channels of every masked group again, one group after the other in the order of the graph.

    Args:
        program: with whole channels masked.
        whole: the same without masks.
        choose: from contributions `[size, size]` and a number of channels to those that stay.
        calibration: the data.

    Returns:
        The program with the new masks, and for each group how many of its channels changed sides.

    Raises:
        PassError: there are masks of single weights, which this would undo.
    """
    found = kept_channels(program)
    if isinstance(found, str):
        raise PassError(
            f"The mask of {found} is not made of whole channels, which this method chooses again. Use it right after "
            "channel-prune, or take method=least-squares or method=obs."
        )
    known, groups = found
    changed, chosen = {}, dict[Axis, Tensor]()
    for group, before in groups.items():
        products = _products(masked(whole, member_masks(known, chosen)), group, calibration)
        chosen[group.axis] = before
        if products is not None:
            chosen[group.axis] = choose(products, int(before.sum()))
        changed[group.name] = int((chosen[group.axis] & ~before).sum())
    return masked(whole, member_masks(known, chosen)), changed


def _products(program: Program, group: Group, calibration: Calibration) -> Tensor | None:
    """Return the contributions of a group's channels to all layers that read them; None if there is no such layer."""
    members = {(member.parameter, member.dim) for member in group.members}
    readers = [
        (layer, dim)
        for layer in layers(program)
        for dim in layer.layout.inputs
        if (layer.parameter, dim) in members and layer.rows is not None
    ]
    known = moments(program, None, {layer.parameter for layer, _ in readers}, calibration) if readers else {}
    total: Tensor | None = None
    for layer, dim in readers:
        weight = program.parameters[layer.parameter]
        index = index_of(group, layer.parameter, dim, weight.shape)
        if index is not None:
            own = contributions(weight, layer.layout, known[layer.parameter].gram, index, group.size)
            own /= own.diagonal().sum().clamp_min(1e-30)  # layers count the same, however large their outputs are
            total = own if total is None else total + own
    return total
