"""A network with three hidden units of known use, for tests of what trials find."""

import torch
from helpers.stats import measure
from torch import nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.groups import groups_of
from sparsify.observation.signals import group_signals
from sparsify.task import Score

USES = (0.0, 0.3, 1.0, 3.0, 0.1)
ORDER = [0, 4, 1, 2, 3]


def known_uses():
    """Return a network whose hidden unit i matters to the output as `USES[i]` says; unit 0 is dead."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(5))
        model[2].weight.copy_(torch.tensor(USES) * torch.tensor([[1.0], [-1.0], [0.5]]))
    return model, sp.capture(model, (torch.randn(8, 5),))


def of_groups(program, needs, task=None, **options):
    """Collect statistics of the groups of a program."""
    found = axes(program)
    signals = group_signals(found, [group for group in groups_of(found) if not group.frozen])
    return measure(program, needs, task, signals=signals, **options)


def of_channels(program, need, task=None, **options):
    """Return a statistic of the only group of a program."""
    (value,) = of_groups(program, [need], task, **options).found[need].values()
    return value


class Imitation:
    """The outputs of a model on random data are what should be learned, so that every change does harm."""

    name = "imitation"

    def __init__(self, model, inputs=(5,), count=8, size=16):
        self.model, self.inputs, self.count, self.size = model, inputs, count, size

    def batches(self, split, *, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.count):
            yield torch.randn(self.size, *self.inputs, generator=generator)

    def loss(self, model, batch):
        with torch.no_grad():
            wanted = self.model(batch)
        return (model(batch) - wanted).square().mean()

    def score(self, model):
        losses = [float(self.loss(model, batch)) for batch in self.batches("validation")]
        return Score(-sum(losses) / len(losses), "negative loss", self.count * self.size)
