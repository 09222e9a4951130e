"""One operation between a layer that makes its input and a layer that reads all of its output, and what is proven of it.

For every group that is free, and for all of them at once, a random half of the indices goes. The smaller program must
then compute what the reference computes at full size, at two batch sizes, and where masking is said to be the same as
removing, what the masked program computes.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from helpers.zoo import randomize
from torch import nn

from sparsify import verify
from sparsify.axes import Axes, axes
from sparsify.axes.resize import resized
from sparsify.capture import capture
from sparsify.groups import Group, groups_of
from sparsify.masking import masked
from sparsify.reference import member_masks, reference_outputs

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
    (full,) = verify.outputs(typed.program)
    for chosen in (*([group] for group in free), *([free] if len(free) > 1 else [])):
        (small,) = assert_removable(typed, chosen)
        assert chosen != free or verify.difference(full, small) > 0.01, "the output is the same without them"
    return [group.size for group in free if group.exact], [group.size for group in free if not group.exact]


def names(groups: Sequence[Group]) -> list[str]:
    return [group.name for group in groups]


def removable(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that can lose an index."""
    return [group for group in groups if not group.frozen and group.size > group.least]


def half(group: Group) -> torch.Tensor:
    """Return which indices of a group stay: a random half, the same each time."""
    kept = torch.zeros(group.size, dtype=torch.bool)
    order = torch.randperm(group.size, generator=torch.Generator().manual_seed(group.size))
    kept[order[: max(group.least, group.size // 2)]] = True
    return kept


def assert_removable(typed: Axes, chosen: Sequence[Group], tolerance: float = ROUNDING) -> list[Any]:
    """Remove half of some groups and compare with the reference, and with masks where that must be the same.

    Returns:
        The outputs for the example of what is left.
    """
    keep = {group.axis: half(group) for group in chosen}
    small = resized(typed, keep)
    verify.propagate_shapes(small)
    truths = [lambda leaves: reference_outputs(typed, keep, leaves)]
    if all(group.exact for group in chosen):
        mask = masked(typed.program, member_masks(typed, keep))
        truths.append(lambda leaves: verify.outputs(mask, leaves))
    for leaves in verify.trial_inputs(typed.program):
        found = verify.outputs(small, leaves)
        for truth in truths:
            gap = max(verify.difference(a, b) for a, b in zip(truth(leaves), found, strict=True))
            assert gap <= tolerance, f"without {names(chosen)} the outputs are off by {gap:.2g}"
    return verify.outputs(small)
