"""Claim: two processes end a sweep at least 1.6 times as soon as one, and one no later than commands in a loop.

A residual network of 2 blocks on the digits, two sparsities and four seeds of a fine-tuning: eight trials of some ten
seconds each, one thread for each process, seeds one by one. `commands` is the same as eight plain commands in a loop,
as a shell script would run them: each imports torch and loads and scores the model again. Times are those of whole
commands, from the shell's prompt to the next one, results and page included.

Limit: the work divides by two, and what does not is importing torch and reading the recipe (3 s or so, alike with one
process and two) and the last trial, which may find the other process idle: eight equal trials have no such rest. Two
processes share the memory and caches of the machine.

Seeds at once: 2 to 16 seeds of one training as one, by stacked weights under vmap, against one after the other in the
same process, for a perceptron and the residual network; seconds of whole trainings of 60 steps. Below 1 it is slower:
`--batch-seeds auto` tries a few steps and then leaves it.

Reading: `scaling` is the time of one process over that of two; 2 is ideal. `together` is the time of single trainings
over that of one for all; `chosen` is what a few steps found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import QUICK, save, table
from torch import nn

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.methods.fine_tune import FineTune
from sparsify.program import Program
from sparsify.tasks.digits import Digits
from sparsify.training.batched import together_pays, train_together
from sparsify.training.train import train

COMMAND = str(Path(sys.executable).with_name("sparsify"))
SCALING = 1.6
STEPS = 20 if QUICK else 2000
TOGETHER = 10 if QUICK else 60
SEEDS = (2, 4) if QUICK else (2, 4, 8, 16)
RECIPE = f"""\
models: model.pt2
methods:
  magnitude:
    passes: weight-prune:sparsity=$sparsity
    retrain: fine-tune:steps={STEPS}it
sparsity: [0.5, 0.8]
seeds: 4
task: digits
"""


def main() -> None:
    """Measure and judge."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    residual = sp.capture(ResNet((1, 1), (8, 16)), (torch.randn(2, 1, 8, 8),))
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    times = swept(residual)
    together = [
        found
        for name, program in {"perceptron": sp.capture(small, (torch.randn(2, 1, 8, 8),)), "residual": residual}.items()
        for found in at_once(name, program)
    ]
    table(["", "seconds"], list(times.items()))
    table(list(together[0]), [list(found.values()) for found in together])
    scaling, loop = times["one process"] / times["two processes"], times["commands"] / times["one process"]
    best = max(found["together"] for found in together)
    save(
        __file__,
        f"two processes end a sweep at least {SCALING:g} times as soon as one, one no later than commands in a loop",
        scaling >= SCALING and loop >= 1,
        f"two processes {scaling:.2f} times as soon as one, which takes {1 / loop:.2f} of the time of a loop; "
        f"seeds at once {min(found['together'] for found in together):.2f} to {best:.2f} times as fast.",
        {"seconds": times, "scaling": scaling, "over_commands": loop, "together": together},
    )


def swept(program: Program) -> dict[str, float]:
    """Return the seconds of the same trials in one process, in two, and as commands."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sp.save(program, folder / "model.pt2")
        (folder / "sweep.yaml").write_text(RECIPE, "utf-8")
        times, told = {}, ""
        for words, jobs in (("one process", 1), ("two processes", 2)):
            sweep = [
                "sweep",
                "sweep.yaml",
                "--batch-seeds",
                "no",
                "--jobs",
                str(jobs),
                "--out",
                f"out-{jobs}",
                "--json",
            ]
            times[words], told = timed(folder, [COMMAND, *sweep])
        commands = [trial["command"].split()[1:] for trial in json.loads(told)["trials"]]
        times["commands"] = sum(timed(folder, [COMMAND, *words])[0] for words in commands)
        return times


def timed(folder: Path, words: list[str]) -> tuple[float, str]:
    """Return the seconds of a command and what it printed."""
    started = time.perf_counter()
    one = {**os.environ, "OMP_NUM_THREADS": "1"}  # as a sweep's processes have; a second one would only wait
    ran = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True, env=one)
    return time.perf_counter() - started, ran.stdout


def at_once(name: str, program: Program) -> list[dict[str, Any]]:
    """Return how much faster trainings are at once, by the number of seeds."""
    task, options = Digits(), FineTune(steps=f"{TOGETHER}it")
    found = []
    for count in SEEDS:
        seeds = range(count)
        chosen, _ = together_pays(program, task, options, seeds)
        started = time.perf_counter()
        train_together([program] * count, task, options, seeds)
        middle = time.perf_counter()
        for seed in seeds:
            train(program, task, options, seed=seed)
        single = time.perf_counter() - middle
        found.append({"network": name, "seeds": count, "together": single / (middle - started), "chosen": chosen})
    return found


if __name__ == "__main__":
    main()
