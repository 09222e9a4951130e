"""Sweeps that are small: a network of two layers, trials that were not run, and what they might have given."""

from pathlib import Path

import torch
from torch import nn

from sparsify.capture import capture
from sparsify.export.archive import save
from sparsify.sweeps import working
from sparsify.sweeps.results import Measured
from sparsify.sweeps.trials import Cell, Trial

RECIPE = """\
models: tiny.pt2
methods:
  pruned:
    passes: weight-prune:sparsity=$sparsity,criterion=random
    retrain: fine-tune:steps=8it
  untrained: weight-prune:sparsity=$sparsity
sparsity: [0.5, 0.8]
seeds: 2
task: digits
"""


def tiny_program():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    return capture(network, (torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)),))


def fail_at(monkeypatch, seed, error):
    """Let trials of a seed fail; others run without their retraining."""
    execute = working.execute

    def failing(program, passes, retrain, task, own, **rest):
        if own == seed:
            raise error
        return execute(program, passes, None, task, own, **rest)

    monkeypatch.setattr(working, "execute", failing)


def write_sweep(folder: Path, text: str = RECIPE) -> Path:
    """Write the network and a recipe beside it; return the recipe."""
    if not (folder / "tiny.pt2").exists():
        save(tiny_program(), folder / "tiny.pt2")
    (folder / "sweep.yaml").write_text(text, "utf-8")
    return folder / "sweep.yaml"


def trial(key="k0", seed=0, method="a", sparsity=0.5, model="m.pt2") -> Trial:
    return Trial(Cell(model, method, sparsity, (f"weight-prune:sparsity={sparsity}",), None), seed, key, f"run {key}")


def report(score=0.9, *, nonzero=50, macs=1000, together=1):
    """What a trial might have given; the model had 100 parameters and took 1000 multiply-accumulates."""
    scored = {"value": score, "name": "accuracy", "n": 450, "interval": [score - 0.02, score + 0.02]}
    return {
        "score": score,
        "scores": {"before": {**scored, "value": 0.95}, "after": scored},
        "before": {"parameters": 100, "nonzero": 100, "macs": 1000},
        "after": {"parameters": 100, "nonzero": nonzero, "macs": macs},
        "retrain": {"together": together},
        "environment": {"python": "3.11", "system": "Linux", "processor": "cpu", "cores": 2, "packages": {"torch": ""}},
        "seconds": 1.5,
    }  # fmt: skip


def done(key="k0", score=0.9, *, nonzero=50, macs=1000, together=1, **of_trial) -> Measured:
    return Measured(trial(key, **of_trial), report(score, nonzero=nonzero, macs=macs, together=together), None)
