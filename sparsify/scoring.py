"""Scores of groups: what a criterion says of single weights, added up over all that an index of a group takes along."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.axes import Axes
from sparsify.axes.axis import Axis
from sparsify.axes.resize import Keep, Resizing
from sparsify.criteria import Criterion
from sparsify.errors import PassError
from sparsify.groups import Group
from sparsify.stats import Statistics

__all__ = ["group_scores"]


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
    attributes = {str(node.target): dims for node, dims in axes.dims.items() if node.op == "get_attr"}
    sums: dict[str, list[Tensor]] = {}
    found: dict[Axis, Tensor] = {}
    for group in groups:
        total = torch.zeros(group.size, dtype=torch.float64)
        for member in group.members:
            name = member.parameter
            if name not in sums:
                sums[name] = _sums(criterion.weight(statistics.of_weight(name)).detach())
            scores = sums[name][member.dim]
            kept = resizing.kept(attributes[name][member.dim])
            for row in member.index if kept is None else member.index[:, kept]:
                total.index_add_(0, row[row >= 0], scores[row >= 0])
        found[group.axis] = _comparable(total, group, keep.get(group.axis), criterion.additive)
    return found


def _sums(scores: Tensor) -> list[Tensor]:
    """Return for every dimension of a tensor the sum over all others; rows and columns are added up in memory order."""
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if scores.ndim < 2:
        return [scores.double().cpu()] * scores.ndim
    columns = scores.sum(0).double()
    found = [scores.flatten(1).sum(1).double()]
    for dim in range(columns.ndim):
        others = [other for other in range(columns.ndim) if other != dim]
        found.append(columns.sum(others) if others else columns)
    return [total.cpu() for total in found]


def _comparable(total: Tensor, group: Group, kept: Tensor | None, additive: bool) -> Tensor:
    left = torch.ones(group.size, dtype=torch.bool) if kept is None else kept
    if not bool(torch.isfinite(total[left]).all()):
        raise PassError(f"The score of {group.name} is not finite. Check the weights, the data and the loss.")
    if not additive:
        total = total / total[left].abs().mean().clamp_min(1e-300)
    return torch.where(left, total, -torch.inf)
