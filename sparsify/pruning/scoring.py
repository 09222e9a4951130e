"""Scores of blocks and groups: of the whole, or of all weights that go along, added up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sparsify.axes import Axes, Axis, axes
from sparsify.axes.axis import leaves
from sparsify.axes.positions import by_leaf
from sparsify.axes.resize import Keep, Resizing, resized
from sparsify.blocks import Block
from sparsify.criteria import Criterion, WeightStats
from sparsify.errors import PassError
from sparsify.groups import Group, groups_of
from sparsify.measuring import collect
from sparsify.observation.calibration import Calibration
from sparsify.observation.signals import block_signals, group_signals
from sparsify.observation.subject import Subject
from sparsify.program import Program

__all__ = ["block_scores", "group_scores"]

_PIECE = 1 << 20  # weights; their scores are read again before they leave the cache


def group_scores(
    found: Axes, groups: list[Group], keep: Keep, criterion: Criterion, calibration: Calibration
) -> Mapping[Axis, Tensor]:
    """Score every index of every group, higher is better.

    A criterion that scores no channels as such scores the weights; an index gets the sum over all that go with it.
    Scores that are no estimates of the loss are divided by the mean of the group, so that groups compare.

    Args:
        found: axes of the whole program.
        groups: what is scored.
        keep: what is already gone; statistics are taken of what is left.
        criterion: what scores.
        calibration: the data of its statistics.

    Returns:
        For each group's axis a float64 tensor [size]; an index that is gone has the score minus infinity.

    Raises:
        PassError: a statistic or a score is not finite.
    """
    program = resized(found, keep) if keep else found.program
    whole = type(criterion).channel is not Criterion.channel
    totals = (_of_channels if whole else _of_weights)(found, groups, keep, criterion, (program, calibration))
    return {
        group.axis: _comparable(totals[group.axis], group, keep.get(group.axis), criterion.additive) for group in groups
    }


def block_scores(
    program: Program, candidates: Sequence[Block], criterion: Criterion, calibration: Calibration
) -> dict[str, float]:
    """Score blocks; return the scores by name.

    Raises:
        PassError: a statistic or a score is not finite.
    """
    names = list(dict.fromkeys(name for block in candidates for name in block.parameters))
    signals = block_signals(program, candidates)
    measured = collect(Subject(program, calibration, names, signals, candidates), criterion.needs)
    scores = {
        block.name: criterion.block(measured.of_block(block, signal.size))
        for block, signal in zip(candidates, signals, strict=True)
    }
    if lost := [name for name, score in scores.items() if not math.isfinite(score)]:
        raise PassError(f"The score of the block {lost[0]} is not finite. Check the weights, the data and the loss.")
    return scores


_Source = tuple[Program, Calibration]


def _of_channels(
    found: Axes, groups: list[Group], keep: Keep, criterion: Criterion, source: _Source
) -> dict[Axis, Tensor]:
    program, calibration = source
    if keep:
        found = axes(program)
        left = {group.name: group for group in groups_of(found)}
    else:
        left = {group.name: group for group in groups}
    wanted = [left[group.name] for group in groups if group.name in left]
    names = list(dict.fromkeys(member.parameter for group in wanted for member in group.members))
    subject = Subject(program, calibration, names, group_signals(found, wanted))
    measured = collect(subject, criterion.needs)
    totals = {}
    for group in groups:
        scores = torch.zeros(group.size, dtype=torch.float64)
        kept = keep.get(group.axis, torch.ones(group.size, dtype=torch.bool))
        if group.name in left:  # else one index is left, which stays
            if not measured.knows(group.name, criterion.needs):
                raise PassError(f"The channels of {group.name} cannot be seen; protect them or use another criterion.")
            scores[kept] = criterion.channel(measured.of_channels(left[group.name])).detach().double().cpu()
        totals[group.axis] = scores
    return totals


def _of_weights(
    found: Axes, groups: list[Group], keep: Keep, criterion: Criterion, source: _Source
) -> dict[Axis, Tensor]:
    resizing = Resizing(found, keep)
    totals = {group.axis: torch.zeros(group.size, dtype=torch.float64) for group in groups}
    wanted = {}
    for node, dims in found.dims.items():
        name = str(node.target)
        if node.op != "get_attr" or name not in found.program.parameters:
            continue
        if not totals.keys().isdisjoint(leaf for axis in dims for leaf in leaves(axis)):
            wanted[name] = dims
    program, calibration = source
    measured = collect(Subject(program, calibration, list(wanted)), criterion.needs)
    for name, dims in wanted.items():
        if not measured.knows(name, criterion.needs):  # as biases have no inputs; they go along
            continue
        for axis, scores in zip(dims, _sums(criterion, measured.of_weight(name)), strict=True):
            kept = resizing.kept(axis)
            full = scores if kept is None else scores.new_zeros(axis.size).masked_scatter_(kept, scores)
            for leaf, part in by_leaf(axis, full, Tensor.sum):
                if leaf in totals:
                    totals[leaf] += part
    return totals


def _sums(criterion: Criterion, stats: WeightStats) -> list[Tensor]:
    """Return for every dimension of a tensor the sum of the scores over all others, as float64 on the CPU."""
    weight = stats.weight
    if weight.ndim < 2:
        return [_scored(criterion, stats).double().cpu()] * weight.ndim
    pieces = [stats]
    if criterion.elementwise and weight.numel() > _PIECE:
        pieces = list(stats.rows(max(1, _PIECE * len(weight) // weight.numel())))
    rows, columns = [], torch.zeros(weight.shape[1:], dtype=torch.float64, device=weight.device)
    for piece in pieces:
        scores = _scored(criterion, piece)
        rows.append(scores.flatten(1).sum(1).double().cpu())
        columns += scores.sum(0)
    others = ([other for other in range(columns.ndim) if other != dim] for dim in range(columns.ndim))
    return [torch.cat(rows), *((columns.sum(dims) if dims else columns).cpu() for dims in others)]


def _scored(criterion: Criterion, stats: WeightStats) -> Tensor:
    scores = criterion.weight(stats).detach()
    return scores if scores.dtype == torch.float64 else scores.float()


def _comparable(total: Tensor, group: Group, kept: Tensor | None, additive: bool) -> Tensor:
    left = torch.ones(group.size, dtype=torch.bool) if kept is None else kept
    if not bool(torch.isfinite(total[left]).all()):
        raise PassError(f"The score of {group.name} is not finite. Check the weights, the data and the loss.")
    if not additive:
        total = total / total[left].abs().mean().clamp_min(1e-300)
    return torch.where(left, total, -torch.inf)
