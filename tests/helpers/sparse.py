"""Sparse trainings in little: what a rule sees at a step, and a whole run on a small task."""

import torch
from torch import nn

import sparsify as sp
from sparsify.layout import Layout
from sparsify.mask_updates import Stats
from sparsify.methods.dst import Dst
from sparsify.task import Score
from sparsify.training.work import Work


class Clusters:
    """Tell four clouds of points apart."""

    name = "clusters"

    def batches(self, split, *, seed=0):
        generator = torch.Generator().manual_seed(seed if split == "train" else 10_000)
        y = torch.randint(0, 4, (8, 32), generator=generator)
        centres = 2 * torch.eye(4, 12)
        return [(centres[part] + torch.randn(32, 12, generator=generator), part) for part in y]

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def score(self, model):
        right = [(model(x).argmax(1) == y).float().mean() for x, y in self.batches("validation")]
        return Score(float(torch.stack(right).mean()), "accuracy", 256)


def program_of(seed=0, *, norm=False):
    torch.manual_seed(seed)
    norms = [nn.BatchNorm1d(32)] if norm else []
    model = nn.Sequential(nn.Linear(12, 32), *norms, nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
    return sp.capture(model, (torch.randn(4, 12),))


def run(method, *, steps="40it", seed=0, program=None, **options):
    """Train with a rule of sparse training, audited."""
    given = {"sparsity": 0.8} if method != "sr-ste" else {}
    if method not in ("static", "sr-ste"):
        given["every"] = "4it" if method != "deepr" else "1it"
    given.update(options)
    method = Dst(method=method, steps=steps, learning_rate=0.05, audit=True, **given)
    return method.retrain(program or program_of(seed), Clusters(), seed=seed, work=Work())


def stats(mask, weight=None, gradient=None, *, step=100, steps=1000, seed=0, rate=0.1):
    """Return what a rule sees of one parameter, `w`."""
    weight = torch.where(mask, torch.ones(mask.shape), 0.0) if weight is None else weight
    gradient = torch.zeros(mask.shape) if gradient is None else gradient
    generator = torch.Generator().manual_seed(seed)
    return Stats(step, steps, {"w": mask}, {"w": weight}, {"w": gradient}, rate, generator)


def started(rule, mask, weight=None):
    """Return a rule that knows how its one parameter is read, and the masks that it starts from."""
    rule.layouts = {"w": Layout((0,), (1,))}
    weight = torch.where(mask, torch.ones(mask.shape), 0.0) if weight is None else weight
    return rule, rule.start({"w": mask}, {"w": weight})["w"]
