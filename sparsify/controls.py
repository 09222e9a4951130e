"""Controls: networks that a pruned one must beat, or its success is not owed to what was kept.

Each has as many weights in every layer as the pruned network, or as many in all. Under the masks of the pruned network
are the weights as they were, from which controls take theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from sparsify.axes import axes
from sparsify.axes.resize import resized
from sparsify.criteria import Criterion
from sparsify.errors import PassError
from sparsify.groups import groups_of
from sparsify.layers import layers
from sparsify.layout import Layout
from sparsify.masking import masked, unmasked
from sparsify.observation.calibration import Calibration
from sparsify.patterns import Block, NofM, Pattern
from sparsify.program import Program
from sparsify.pruning.channel_masks import kept_channels
from sparsify.pruning.choice import chosen, made
from sparsify.pruning.floors import floors
from sparsify.pruning.ranking import Scored
from sparsify.pruning.reference import member_masks
from sparsify.pruning.scoring import group_scores
from sparsify.pruning.selection import Goal, Selection
from sparsify.pruning.weight_masks import Shaper
from sparsify.pruning.weight_scores import weight_scores
from sparsify.pruning.widths import Widths

__all__ = ["chosen_again", "small_dense"]


def chosen_again(
    program: Program, criterion: str, calibration: Calibration, pattern: Pattern, *, lowest: bool = False
) -> Program:
    """Keep as much of every layer as a program's masks keep, but what a criterion scores highest, or lowest.

    Masks of whole channels become masks of other channels of the same groups; other masks keep the pattern.

    Args:
        program: with masks.
        criterion: of channels if whole channels are masked, else of weights; `random` shuffles each layer's mask.
        calibration: the data of its statistics.
        pattern: of masks that are not of whole channels.
        lowest: keep what scores lowest.

    Raises:
        PassError: a mask has another pattern, or the criterion scores something else or lacks data.

    Reference: Frankle et al., "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?", 2021
    (layer-wise shuffling and inverted scores).
    """
    found = kept_channels(program)
    whole = unmasked(program)
    if isinstance(found, str):
        scoring = chosen(criterion, "weights", whole, calibration)
        return masked(whole, _weights(program, whole, scoring, calibration, (pattern, lowest)))
    known, groups = found
    scores = group_scores(known, list(groups), {}, chosen(criterion, "channels", whole, calibration), calibration)
    keep = {}
    for group, old in groups.items():
        order = scores[group.axis].argsort(descending=not lowest, stable=True)
        keep[group.axis] = torch.zeros_like(old).index_fill_(0, order[: int(old.sum())], True)
    return masked(whole, member_masks(known, keep))


def _weights(
    program: Program,
    whole: Program,
    criterion: Criterion,
    calibration: Calibration,
    how: tuple[Pattern, bool],
) -> dict[str, Tensor]:
    pattern, lowest = how
    own = {layer.parameter: layer.layout for layer in layers(program)}
    masks = program.masks
    layouts = {name: own.get(name, Layout((0,), tuple(range(1, mask.ndim)))) for name, mask in masks.items()}
    for name, mask in masks.items():
        _check(name, mask, pattern, layouts[name])
    shaper = Shaper(pattern, {name: mask.shape for name, mask in masks.items()}, layouts)
    counts = {name: int((~mask).sum()) for name, mask in masks.items()}
    scored = weight_scores(whole, list(masks), criterion, calibration, {})
    return shaper.apart((_negated(item) if lowest else item for item in scored), counts)


def _check(name: str, mask: Tensor, pattern: Pattern, layout: Layout) -> None:
    made = mask
    if isinstance(pattern, Block):
        made = pattern.mask(pattern.scores(mask.float(), layout) > 0, mask.shape, layout)
    elif isinstance(pattern, NofM):
        made = ~mask if pattern.reason(mask.shape, layout) else pattern.mask(mask.float(), layout)
    if not torch.equal(made, mask):
        raise PassError(
            f"The mask of {name} does not have the pattern that is given, so that a control would not keep as much. "
            "Give the pattern= of the pruning."
        )


def _negated(item: Scored) -> Scored:
    def pieces() -> Iterator[Tensor]:
        return (-piece for piece in item.pieces())

    return replace(item, pieces=pieces)


def small_dense(program: Program, seed: int) -> Program:
    """Return a dense program with as many parameters as a masked one has left: random channels of all groups go.

    Reference: Liu et al., "Rethinking the Value of Network Pruning", 2019.

    Raises:
        PassError: channels alone cannot make it so small.
    """
    whole = unmasked(program)
    found = axes(whole)
    groups = [group for group in groups_of(found) if not group.frozen]
    if not groups:
        raise PassError("The model has no channels that could go: there is no smaller dense model of its kind.")
    gone = sum(int((~mask).sum()) for mask in program.masks.values())
    total = sum(value.numel() for value in whole.parameters.values())
    limits = floors(groups, round_to=1, max_sparsity=0.999, minimum=1)
    selection = Selection(limits, Widths(found), Goal("params", 1 - gone / total), "uniform")
    scores = group_scores(found, groups, {}, made("random"), Calibration(None, seed=seed))
    return resized(found, selection.choose(scores, share=1))
