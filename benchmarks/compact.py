"""Claim: at 90% sparsity compact training holds at most 0.35 of a dense one: weights, gradients and Adam's slots.

GPT-2 as it comes (124 million parameters, random weights, its table tied to its head), AdamW, one sequence of 32
random tokens. Dense; with masks in the usual way; compact at 50, 90, 95 and 99%, all pruned at random and in all
layers. Each is a process of its own. The program that is given (weights and masks) is not counted in bytes, as it is
the caller's; the system sees it, and Python may keep it as long as the call lasts.

Bytes are counted exactly, by every storage that comes and goes in the last step. `state` is the highest point of what
was there before it (weights, slots, places) and of whatever comes on the way with the size of a weight or a parameter:
gradients, and weights that are made again; activations have other sizes. `all` is the highest point of everything.
`resident` is the peak of the process's memory as the system sees it (VmHWM, set back after the first step), less what
the process had before there was a model; blocks of 64 KiB and more go back at once (MALLOC_MMAP_THRESHOLD_). `end` is
that of the whole training, with the program at its beginning and the one that comes out.

Limit: with a density p a weight takes 16 p bytes in place of 16, and 2 p for its place. Besides, two whole copies of
the largest weight exist for a moment: the weight that is made again, and its gradient. The table of GPT-2 is a third of
all its weights, so that this is 0.16 of dense; a model without such a table has less.

Time: making weights again and taking values out of gradients costs about the same for any number of tokens, so that it
is most of a step of 32 of them, and little of one of thousands.

Reading: what is left at 90% is mostly the largest layer. The whole weights that come out in the end are not counted
among the state of the training, but are in the resident memory.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import QUICK, save, table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import sparsify as sp
from sparsify.masking import masked
from sparsify.program import Program
from sparsify.task import Score
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions
from sparsify.training.watch import StepEvent

STEPS = 3 if QUICK else 6
TOKENS = 32
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
REAL = (Tensor, nn.Parameter)
KINDS = ("dense", "masked 0.9", "compact 0.5", "compact 0.9", "compact 0.95", "compact 0.99")


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that operators make while it is on, and of those that were there before."""

    def __init__(self, before: list[Tensor], sizes: set[int]) -> None:
        super().__init__()
        self._known: dict[int, tuple[int, int]] = {}
        self._sizes = sizes
        self.now, self.peak = [0, 0], [0, 0]  # of everything, and of the state
        for value in before:
            self._see(value, there=True)
        self.begin = self.now[0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and look at what it returns."""
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self._see(value)
        return made

    def _see(self, value: Tensor, *, there: bool = False) -> None:
        storage = value.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known[key] = size, size if there or size in self._sizes else 0
        self.now = [now + more for now, more in zip(self.now, self._known[key], strict=True)]
        self.peak = [max(pair) for pair in zip(self.peak, self.now, strict=True)]
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now = [now - less for now, less in zip(self.now, self._known.pop(key), strict=True)]


@dataclass
class Words:
    """Sequences of random tokens, each of which is to be predicted."""

    name: str = "words"

    def batches(self, split: str, *, seed: int = 0) -> list[Tensor]:
        """Return one batch for each step."""
        return list(torch.randint(50257, (STEPS + 1, 1, TOKENS), generator=torch.Generator().manual_seed(seed)))

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Return the cross-entropy."""
        return nn.functional.cross_entropy(model(batch).flatten(0, 1), batch.flatten())

    def score(self, model: nn.Module) -> Score:
        """Return nothing of interest."""
        return Score(0.0, "none", 1)


class Gpt2(nn.Module):
    """GPT-2 of the usual size, random, which returns logits."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
        self.model = GPT2LMHeadModel(config)

    def forward(self, words: Tensor) -> Tensor:
        """Map `[N, T]` to `[N, T, V]`."""
        logits: Tensor = self.model(words).logits
        return logits


def network(density: float) -> Program:
    """Return the network with random masks on all of its matrices."""
    torch.manual_seed(0)
    program = sp.capture(Gpt2(), (torch.randint(50257, (2, TOKENS)),))
    if density == 1:
        return program
    matrices = {name: value for name, value in program.parameters.items() if value.ndim > 1}
    return masked(program, {name: torch.rand(value.shape) < density for name, value in matrices.items()})


def resident(field: str) -> int:
    """Return a number of bytes that the system knows of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def tensors(program: Program) -> list[Tensor]:
    """Return the weights, masks and other tensors of a program."""
    return [*program.parameters.values(), *program.buffers.values()]


def measure(kind: str) -> dict[str, float]:
    """Train a network in this process; return bytes and seconds."""
    way, _, sparsity = kind.partition(" ")
    base = resident("VmRSS")
    programs = [network(1 - float(sparsity or 0))]
    parameters = sum(value.numel() for value in programs[0].parameters.values())
    weights = {4 * value.numel() for value in programs[0].parameters.values() if value.ndim > 1}
    found, times, counted = {"parameters": float(parameters)}, list[float](), list[Live]()
    given = {value.untyped_storage()._cdata for value in tensors(programs[0])}
    gc.collect()

    def listen(event: StepEvent) -> None:
        times.append(time.perf_counter())
        if event.step == 1:
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")
        if event.step == STEPS - 1:
            found["resident"] = resident("VmHWM") - base
            known = [value for value in gc.get_objects() if type(value) in REAL and value.device.type == "cpu"]
            there = [value for value in known if value.untyped_storage()._cdata not in given]
            counted.append(Live(there, weights | {4 * p.numel() for p in event.module.parameters()}))
            counted[0].__enter__()
        if event.step == STEPS:
            counted[0].__exit__(None, None, None)

    options = TrainOptions(f"{STEPS}it", 1e-3, "adamw", weight_decay=0.01, compact=way == "compact")
    train(programs.pop(), Words(), options, on_step=listen)
    found["end"] = resident("VmHWM") - base
    found["seconds"] = statistics.median(after - before for before, after in itertools.pairwise(times[:-1]))
    (live,) = counted
    return {**found, "before_step": live.begin, "all": live.peak[0], "state": live.peak[1]}


def main() -> None:
    """Measure each kind in a process of its own, and judge."""
    results: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        command = [sys.executable, __file__, "--one", kind, *(["--quick"] if QUICK else [])]
        ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, env={**os.environ, **MALLOC}, text=True)
        results[kind] = json.loads(ran.stdout.splitlines()[-1])
    dense = results["dense"]
    nominal = 16 * dense["parameters"]  # a weight, its gradient and two slots; less than a dense run's peak
    shares = ("state", "all", "resident", "end", "seconds")
    for found in results.values():
        found.update({f"{name}_of_dense": found[name] / dense[name] for name in shares})
    table(
        ["GPT-2, AdamW", "state MB", *(f"{name} of dense" for name in shares)],
        [[k, f"{f['state'] / 1e6:.0f}", *(f"{f[f'{n}_of_dense']:.3f}" for n in shares)] for k, f in results.items()],
    )
    compact = results["compact 0.9"]
    save(
        __file__,
        "at 90% sparsity compact training holds at most 0.35 of the weights, gradients and slots of a dense one",
        compact["state"] / nominal <= 0.35,
        f"{compact['state'] / nominal:.3f} of 16 bytes for each weight, {compact['state_of_dense']:.3f} of a dense "
        f"run, {compact['all_of_dense']:.3f} with activations, "
        f"{compact['resident_of_dense']:.3f} of its resident memory; a step takes {compact['seconds_of_dense']:.2f} of "
        "a dense one of 32 tokens.",
        results,
    )


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(measure(sys.argv[sys.argv.index("--one") + 1])))
    else:
        main()
