"""A task of batches that are given, and the signals of all groups of a program, for the tests of statistics."""

from dataclasses import dataclass, field

import torch

from sparsify.axes import axes
from sparsify.groups import groups_of
from sparsify.observation.signals import group_signals
from sparsify.task import Score


@dataclass
class Given:
    """Batches of inputs and labels; the loss is the cross-entropy of the model's outputs."""

    given: list
    name: str = field(default="given")

    def batches(self, split, *, seed=0):
        yield from self.given

    def labels(self, batch):
        return batch[1]

    def loss(self, model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    def score(self, model):
        return Score(0.0, "nothing", 1)


@dataclass
class Outputs:
    """Two batches of the same keyword arguments; the loss is the mean square of the model's first output."""

    kwargs: dict
    name: str = "outputs"

    def batches(self, split, *, seed=0):
        return [self.kwargs, self.kwargs]

    def loss(self, model, batch):
        leaves = torch.utils._pytree.tree_leaves(model(**batch))
        return leaves[0].float().square().mean()

    def score(self, model):
        return Score(0.0, "nothing", 1)


def parts(x, y=None, count=2):
    """Return a task of some data in parts, and one of the same data in a single batch."""
    y = torch.zeros(len(x), dtype=torch.int64) if y is None else y
    return Given(list(zip(x.chunk(count), y.chunk(count), strict=True))), Given([(x, y)])


def signals(program):
    """Return where the channels of all groups that can be pruned are seen."""
    found = axes(program)
    return group_signals(found, [group for group in groups_of(found) if not group.frozen])
