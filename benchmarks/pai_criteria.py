"""Claim: choosing weights before the training costs less than three epochs, for criteria that need few rounds.

The time in which `weight-prune` chooses 2% of the weights of an untrained network by each criterion, with the rounds of
its paper and eight batches of 64, against one epoch of training of the same dense network in the same run (SGD with
momentum, batches of 64, 1,347 digits: 22 steps). Two networks: the perceptron 64-300-100-10, and a residual network
with nine blocks of 8, 16 and 32 channels. Epochs are measured before each criterion, so that what else the machine does
hits both alike; given are medians of three, and single values for criteria with more than ten rounds.

Reading: the ratio is what counts, since times vary with the machine's load. Most of a cheap criterion's time is the
pass around it, which masks a graph. What costs is rounds: FORCE and iterative SNIP
look at the batches 60 times, SynFlow asks for no data, but 100 times: 480 batches are 22 epochs of so few digits, and
as little on a data set of thousands of batches. PHEW walks one path after the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from common import QUICK, save, table
from torch import nn

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.pass_manager import PassManager
from sparsify.program import Program
from sparsify.pruning.choice import made
from sparsify.tasks.digits import Digits
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions

CRITERIA = (
    "random", "magnitude", "snip", "grasp", "gradient-magnitude", "gradient-flow", "cops", "prospr", "phew", "snip-it",
    "iterative-snip", "force", "synflow",
)  # fmt: skip
REPEATS = 1 if QUICK else 3
MANY = 10  # rounds
LIMIT = 3.0  # epochs


def networks() -> dict[str, Program]:
    """Return the untrained networks."""
    torch.manual_seed(0)
    perceptron = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    args, _ = Digits().example()
    return {"MLP": sp.capture(perceptron, args), "ResNet": sp.capture(ResNet([3, 3, 3], [8, 16, 32], channels=1), args)}


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measured(program: Program, criterion: str) -> dict[str, float]:
    """Return the time of an epoch, of choosing, and their ratio: medians over repeats of both in turn."""
    task = Digits()
    spec = f"weight-prune:sparsity=0.98,criterion={criterion},allow_collapse=yes"
    samples = []
    for _ in range(REPEATS if made(criterion).rounds <= MANY else 1):
        epoch = seconds(lambda: train(program, task, TrainOptions(steps="1ep")))
        chosen = seconds(lambda: PassManager([spec], verify=False).run(program, task=task))
        samples.append((epoch, chosen, chosen / epoch))
    return dict(zip(("epoch", "choose", "epochs"), map(statistics.median, zip(*samples, strict=True)), strict=True))


def main() -> None:
    """Measure, and judge."""
    torch.set_num_threads(1)  # networks this small are slower on more
    results: dict[str, Any] = {}
    rows = []
    for name, program in networks().items():
        measured(program, "snip")  # to warm up
        for criterion in CRITERIA:
            found = measured(program, criterion)
            results[f"{name} {criterion}"] = found
            rows.append([name, criterion, 1e3 * found["epoch"], 1e3 * found["choose"], found["epochs"]])
            print(*rows[-1], flush=True)
    table(["network", "criterion", "epoch ms", "choose ms", "epochs"], rows)
    many = {key for key in results if made(key.split()[1]).rounds > MANY}
    worst = {kind: max(keys, key=lambda key: float(results[key]["epochs"]))
             for kind, keys in (("few", results.keys() - many), ("many", many))}  # fmt: skip
    few, much = (results[worst[kind]]["epochs"] for kind in ("few", "many"))
    save(
        __file__,
        "choosing weights before the training costs less than three epochs, for criteria that need few rounds",
        few < LIMIT,
        f"The most is {few:.2f} epochs ({worst['few']}), in 60 rounds or more {much:.1f} ({worst['many']}).",
        results,
    )


if __name__ == "__main__":
    main()
