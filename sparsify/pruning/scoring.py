"""Scores of groups: what a criterion says of single weights, added up over all that an index of a group takes along."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.axes import Axes
from sparsify.axes.axis import Axis, leaves
from sparsify.axes.positions import by_leaf
from sparsify.axes.resize import Keep, Resizing
from sparsify.criteria import Criterion, WeightStats
from sparsify.errors import PassError
from sparsify.groups import Group
from sparsify.stats import Statistics

__all__ = ["group_scores"]

_PIECE = 1 << 20  # weights; their scores are read again before they leave the cache


def group_scores(
    axes: Axes, groups: list[Group], keep: Keep, criterion: Criterion, statistics: Statistics
) -> Mapping[Axis, Tensor]:
    """Score every index of every group: the sum of the scores of all weights that go with it, higher is better.

    Scores that are no estimates of the loss are divided by the mean of the group, so that groups compare.

    Args:
        axes: of the whole program.
        groups: what is scored.
        keep: what is already gone; the statistics are those of the program that is left.
        criterion: scores single weights.
        statistics: of the program that is left.

    Returns:
        For each group's axis a float64 tensor [size]; an index that is gone has the score minus infinity.

    Raises:
        PassError: a score is not finite.
    """
    resizing = Resizing(axes, keep)
    totals = {group.axis: torch.zeros(group.size, dtype=torch.float64) for group in groups}
    for node, dims in axes.dims.items():
        name = str(node.target)
        if node.op != "get_attr" or name not in axes.program.parameters:
            continue
        if totals.keys().isdisjoint(leaf for axis in dims for leaf in leaves(axis)):
            continue
        for axis, scores in zip(dims, _sums(criterion, statistics.of_weight(name)), strict=True):
            kept = resizing.kept(axis)
            full = scores if kept is None else scores.new_zeros(axis.size).masked_scatter_(kept, scores)
            for leaf, part in by_leaf(axis, full, Tensor.sum):
                if leaf in totals:
                    totals[leaf] += part
    return {
        group.axis: _comparable(totals[group.axis], group, keep.get(group.axis), criterion.additive) for group in groups
    }


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
