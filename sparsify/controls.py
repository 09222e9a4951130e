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
from sparsify.patterns import Block, pattern_of
from sparsify.program import Program
from sparsify.pruning.channel_masks import kept_channels
from sparsify.pruning.choice import chosen, made
from sparsify.pruning.floors import floors
from sparsify.pruning.ranking import Scored
from sparsify.pruning.reference import member_masks
from sparsify.pruning.scoring import group_scores
from sparsify.pruning.selection import Goal, Selection
from sparsify.pruning.weight_masks import Shaper
from sparsify.pruning.weight_scores import dense_scores, weight_scores
from sparsify.pruning.widths import Widths

__all__ = ["chosen_again", "small_dense"]


def chosen_again(program: Program, criterion: str, calibration: Calibration, *, lowest: bool = False) -> Program:
    """Keep as much of every layer as a program's masks keep, but what a criterion scores highest, or lowest.

    Masks of whole channels become masks of other channels of the same groups; other masks keep the pattern that they
    have, N:M, tiles or none.

    Args:
        program: with masks.
        criterion: of channels if whole channels are masked, else of weights; `random` shuffles each layer's mask.
        calibration: the data of its statistics.
        lowest: keep what scores lowest.

    Raises:
        PassError: the criterion scores something else or lacks data.

    Reference: Frankle et al., "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?", 2021
    (layer-wise shuffling and inverted scores).
    """
    found = kept_channels(program)
    whole = unmasked(program)
    if isinstance(found, str):
        scoring = chosen(criterion, "weights", whole, calibration)
        return masked(whole, _weights(program, whole, scoring, calibration, lowest))
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
    lowest: bool,
) -> dict[str, Tensor]:
    found = _layouts(program)
    masks: dict[str, Tensor] = {}
    for item in weight_scores(whole, list(found), criterion, calibration, {}):
        mask, layout = program.masks[item.name], found[item.name]
        pattern, chosen = pattern_of(mask, layout), _negated(item) if lowest else item
        if isinstance(pattern, Block):
            masks[item.name] = _tiles(pattern, layout, mask, dense_scores(chosen, mask.shape).cpu())
        else:
            shaper = Shaper(pattern, {item.name: mask.shape}, {item.name: layout})
            masks |= shaper.apart([chosen], {item.name: int((~mask).sum())})
    return masks


def _tiles(pattern: Block, layout: Layout, mask: Tensor, scores: Tensor) -> Tensor:
    """Prune the lowest tiles: of each size, as at the edges, as many as a mask prunes."""
    sizes = pattern.sizes(mask.shape, layout)
    gone = pattern.scores((~mask.cpu()).float(), layout) > 0
    worth, kept = pattern.scores(scores, layout), torch.ones(len(sizes), dtype=torch.bool)
    for size in set(sizes.tolist()):
        at = (sizes == size).nonzero().flatten()
        kept[at[worth[at].argsort(stable=True)[: int(gone[at].sum())]]] = False
    return pattern.mask(kept, mask.shape, layout)


def _layouts(program: Program) -> dict[str, Layout]:
    """Return how the masked weights are read; those that no layer reads, such as scales of norms, by rows."""
    own = {layer.parameter: layer.layout for layer in layers(program)}
    return {name: own.get(name, Layout((0,), tuple(range(1, mask.ndim)))) for name, mask in program.masks.items()}


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
