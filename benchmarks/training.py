"""Claim: a masked training step takes at most 1.05 of a dense one, with RigL amortised at most 1.07.

ResNet-32 on 32x32 images (batch 64) and a transformer encoder of four layers of width 256 (batch 16, 64 tokens), random
data, SGD with momentum and AdamW; 90% of the weights pruned by ERK. Dense, masked, masked with RigL (an update every
100 steps) and masked with the audit that checks everything after every step; in turns, medians of steps.

Limit: pruned weights are zeros of a dense network, so that a step computes as much as a dense one. What masks add is a
multiplication of the gradients, 12 bytes of traffic a weight: 6 MB for ResNet-32 and 38 MB for the encoder.

Reading: 1.00 means that masks are free. Nothing is gained either: that is what sparse kernels are for.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from common import QUICK, save, table
from torch import Tensor, nn

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.mask_updates.rigl import Rigl
from sparsify.program import Program
from sparsify.task import Score
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions

STEPS, TURNS = (12, 2) if QUICK else (21, 7)
EVERY = 100


@dataclass
class Random:
    """Batches of random inputs and labels, made once."""

    make: Callable[[], Tensor]
    name: str = "random"

    def batches(self, split: str, *, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Return ten batches, the same ones."""
        x = self.make()
        return [(x, torch.arange(len(x)) % 10)] * 10

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the cross-entropy."""
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def score(self, model: nn.Module) -> Score:
        """Return nothing of interest."""
        return Score(0.0, "none", 1)


class Encoder(nn.Module):
    """A transformer encoder over embedded tokens, and a classifier of their mean."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, 64, 256]` to `[N, 10]`."""
        out: Tensor = self.head(self.layers(x).mean(1))
        return out


def networks() -> Iterator[tuple[str, Program, Random]]:
    """Yield the networks with their data."""
    torch.manual_seed(0)
    images, tokens = torch.randn(64, 3, 32, 32), torch.randn(16, 64, 256)
    resnet = ResNet([5, 5, 5], [16, 32, 64], channels=3, classes=10)
    yield "ResNet-32", sp.capture(resnet, (images[:2],)), Random(lambda: images)
    yield "encoder", sp.capture(Encoder(), (tokens[:2],)), Random(lambda: tokens)


def step(program: Program, task: Random, options: TrainOptions, rule: Rigl | None = None) -> float:
    """Return the median seconds of the steps behind the first three."""
    times: list[float] = []
    train(program, task, options, rule=rule, on_step=lambda event: times.append(time.perf_counter()))
    return statistics.median(after - before for before, after in itertools.pairwise(times[3:]))


def update(program: Program, task: Random, options: TrainOptions) -> float:
    """Return the least seconds of a step in which RigL exchanges weights, of three."""
    found = []
    for _ in range(3):
        times: list[float] = []
        note: Callable[[object], None] = lambda event, to=times: to.append(time.perf_counter())  # type: ignore[misc] # noqa: E731
        train(program, task, options, rule=Rigl(every=4, until=1.0), span=(0, 5), on_step=note)
        found.append(times[-1] - times[-2])
    return min(found)


def ratios(dense: Program, task: Random, optimizer: str) -> dict[str, float]:
    """Return what steps take, in turns, relative to a dense one."""
    masked = sp.run(dense, ["weight-prune:sparsity=0.9,allocation=erk"]).program
    options = TrainOptions(f"{STEPS}it", learning_rate=1e-3, optimizer=optimizer)  # type: ignore[arg-type]
    kinds: dict[str, Callable[[], float]] = {
        "dense": partial(step, dense, task, options),
        "masked": partial(step, masked, task, options),
        "rigl": lambda: step(masked, task, options, Rigl(every=10_000)),
        "audit": partial(step, masked, task, replace(options, audit=True)),
    }
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(TURNS):
        for kind in list(kinds)[:: 1 if turn % 2 else -1]:
            samples[kind].append(kinds[kind]())
    base, extra = statistics.median(samples["dense"]), update(masked, task, options)
    found = {
        kind: statistics.median(a / b for a, b in zip(values, samples["dense"], strict=True))
        for kind, values in samples.items()
    }
    found["rigl"] = ((EVERY - 1) * found["rigl"] + extra / base) / EVERY
    return {"dense_ms": 1e3 * base, "update_ms": 1e3 * extra, **found}


def main() -> None:
    """Measure, and judge."""
    results = {
        f"{name} {optimizer}": ratios(dense, task, optimizer)
        for name, dense, task in networks()
        for optimizer in ("sgd", "adamw")
    }
    kinds = ("masked", "rigl", "audit")
    table(
        ["network, optimizer", "dense ms", *kinds],
        [[name, f"{found['dense_ms']:.1f}", *(f"{found[k]:.3f}" for k in kinds)] for name, found in results.items()],
    )
    masked, rigl = (max(found[kind] for found in results.values()) for kind in ("masked", "rigl"))
    save(
        __file__,
        "a masked step takes at most 1.05 of a dense one, with RigL amortised at most 1.07",
        masked <= 1.05 and rigl <= 1.07,
        f"masked at most {masked:.3f}, with RigL every {EVERY} steps at most {rigl:.3f} of a dense step.",
        results,
    )


if __name__ == "__main__":
    main()
