"""One operation between a layer that makes its input and a layer that reads its output, and what is proven of it.

For every group that is free, and for all of them at once, a random half of the indices goes. The smaller program must
then compute what the reference computes at full size, at two batch sizes, and where masking is said to be the same as
removing, what the masked program computes.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch
from helpers.zoo import randomize
from torch import nn

from sparsify import verify
from sparsify.axes import Axes, axes
from sparsify.axes.resize import resized
from sparsify.capture import capture
from sparsify.groups import Group, groups_of
from sparsify.masking import masked
from sparsify.pruning.reference import member_masks, reference_outputs
from sparsify.shapes import propagate_shapes

ROUNDING = 1e-9  # of float64, which keeps 16 digits, over a few small sums


class Between(nn.Module):
    """A stem, an operation on what it makes, and a linear layer on all numbers of the result."""

    def __init__(self, op: Callable[..., Any], stem: nn.Module, parts: Mapping[str, Any], x: torch.Tensor) -> None:
        super().__init__()
        self.op, self.stem = op, stem
        for name, part in parts.items():
            setattr(self, name, part)
        with torch.no_grad():
            self.head = nn.Linear(self.middle(x).shape[1], 3)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(self, self.stem(x)).flatten(1).float()

    def forward(self, x):
        return self.head(self.op(self, self.stem(x)).flatten(1))


@dataclass(frozen=True)
class Case:
    """An operation and the sizes of the groups that must be free around it, in the order of the parameters.

    Attributes:
        op: a function of the network, whose parts it may use, and of what the stem makes.
        stem: a layer, or the width of a linear one.
        exact: free groups of which masking an index is the same as removing it.
        inexact: other free groups.
        x: the shape of the input without the batch; the last dimension is the width that a linear stem reads.
        parts: what else the network holds.
    """

    op: Callable[..., Any]
    stem: nn.Module | int
    exact: Sequence[int]
    inexact: Sequence[int]
    x: tuple[int, ...]
    parts: Mapping[str, Any]

    def axes(self) -> Axes:
        """Capture the network, with random numbers everywhere, in float64."""
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            x = torch.randn(2, *self.x)
            stem = nn.Linear(self.x[-1], self.stem) if isinstance(self.stem, int) else self.stem
            net = Between(self.op, *copy.deepcopy((stem, self.parts)), x)
            net = randomize(net, 1).double().eval()
        return axes(capture(net, (x.double(),)))


def case(op, stem, exact=(), inexact=(), x=(5,), **parts):
    """Return a case with defaults: by default the operation sees [batch, width]."""
    return Case(op, stem, list(exact), list(inexact), x, parts)


def prove(found: Case) -> tuple[list[int], list[int]]:
    """Prove what is said about a case and return the sizes of its free groups, exact and inexact ones."""
    typed = found.axes()
    free = removable(groups_of(typed))
    for group in free if len(free) > 1 else []:
        assert_removable(typed, [group], thorough=False)
    if free:
        (full,), (small,) = verify.outputs(typed.program), assert_removable(typed, free)
        assert verify.difference(full, small) > 0.01, "nothing depends on what is free"
    return [group.size for group in free if group.exact], [group.size for group in free if not group.exact]


def removable(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that can lose an index."""
    return [group for group in groups if not group.frozen and group.size > group.least]


def half(group: Group) -> torch.Tensor:
    """Return which indices of a group stay: a random half, another one for every group, the same in every run."""
    kept = torch.zeros(group.size, dtype=torch.bool)
    order = torch.randperm(group.size, generator=torch.Generator().manual_seed(crc32(group.name.encode())))
    kept[order[: max(group.least, group.size // 2)]] = True
    return kept


def assert_removable(typed: Axes, chosen: Sequence[Group], tolerance: float = ROUNDING, thorough: bool = True) -> Any:
    """Remove half of some groups and compare with the reference, and with masks where that must be the same.

    Args:
        typed: the program's axes.
        chosen: the groups.
        tolerance: the largest relative difference.
        thorough: derive all shapes again, try two batch sizes, and compare with the reference where masks would do.

    Returns:
        The outputs for the example of what is left.
    """
    keep = {group.axis: half(group) for group in chosen}
    small = resized(typed, keep)
    if thorough:
        propagate_shapes(small)
    exact = all(group.exact for group in chosen)
    mask = masked(typed.program, member_masks(typed, keep)) if exact else None
    example, *others = verify.trial_inputs(typed.program)
    for leaves in [*others, example] if thorough else [example]:
        found, truths = verify.outputs(small, leaves), []
        if mask is not None:
            truths.append(verify.outputs(mask, leaves))
        if mask is None or thorough:
            truths.append(reference_outputs(typed, keep, leaves))
        gap = max(verify.difference(a, b) for truth in truths for a, b in zip(truth, found, strict=True))
        assert gap <= tolerance, f"without half of {[group.name for group in chosen]} the outputs are off by {gap:.2g}"
    return found
