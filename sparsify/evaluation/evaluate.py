"""Evaluate: everything that a table about compressed models has, for models and data of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from sparsify.contenders import torch_run
from sparsify.cost import cost
from sparsify.errors import UsageError
from sparsify.evaluation.corruptions import CORRUPTIONS, SEVERITIES
from sparsify.evaluation.energy import GRID, Meter, arithmetic_joules, measure_energy
from sparsify.evaluation.likeness import OUTPUT, Likeness, likenesses
from sparsify.evaluation.limited import LimitedTask
from sparsify.evaluation.memory import peak_bytes
from sparsify.evaluation.pixels import PixelRange, pixel_range
from sparsify.evaluation.robustness import robustness, scored, unfit
from sparsify.inputs import agreed_batches, fixed_batch
from sparsify.latency import SESSIONS, Latency, Speed, in_turns, threads_here
from sparsify.program import Program
from sparsify.task import Score, Task

__all__ = ["Evaluation", "Power", "evaluate"]


@dataclass(frozen=True)
class Power:
    """How energy and CO2 are estimated; see `measure_energy`."""

    meter: Meter = "auto"
    watts: float | None = None
    grid: float = GRID
    country: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """What is measured, and how.

    Attributes:
        corruptions: names of those that are tried.
        severities: which of 1 to 5.
        similarity: where CKA is measured: at the layers and the output, at the output, or not at all.
        shifted: further tasks by name, that the models are scored on.
        examples: validation examples after which a split ends, with their batch; None looks at all.
        seconds: how long latency is measured for all models together; 0 leaves latency and energy out.
        batch: how many examples a measured run has; what the models are fixed to, or 1, if not given.
        threads: of latency; all processors if not given.
        power: how energy is estimated.
        seed: of the corruptions.
        stage: told what begins.
    """

    corruptions: Sequence[str] = tuple(CORRUPTIONS)
    severities: Sequence[int] = SEVERITIES
    similarity: Literal["layers", "output", "none"] = "layers"
    shifted: Mapping[str, Task] = field(default_factory=dict)
    examples: int | None = None
    seconds: float = 10.0
    batch: int | None = None
    threads: int | None = None
    power: Power = Power()
    seed: int = 0
    stage: Callable[[str], None] = lambda text: None

    def limited(self, task: Task) -> Task:
        """Return a task that ends after as many examples as are looked at."""
        return task if self.examples is None else LimitedTask(task, self.examples)


def evaluate(models: Mapping[str, Program], task: Task, how: Evaluation | None = None) -> dict[str, Any]:
    """Measure models beside the first of them.

    Args:
        models: by name; the others are compared with the first.
        task: gives validation data and the score.
        how: what is measured.

    Returns:
        `models`, a dictionary of each with what was measured, and what holds for all; it can be written as JSON.

    Raises:
        UsageError: the task does not fit the models, or an option is wrong.
    """
    how = how or Evaluation()
    if not models:
        raise UsageError("There is no model to evaluate.")
    data, programs = how.limited(task), list(models.values())
    modules = [program.module(copy=False) for program in programs]
    fixed = {name: fixed_batch(program) for name, program in models.items()}
    (batch,) = agreed_batches(fixed, [how.batch] if how.batch else None, "--batch")
    (macs_batch,) = agreed_batches(fixed, None, "--batch")
    how.stage("scoring")
    clean = [scored(data, module) for module in modules]
    rows: list[dict[str, Any]] = [
        {"name": name, "score": score.as_dict(), "masked": bool(program.masks), **_size(program, batch, macs_batch)}
        for (name, program), score in zip(models.items(), clean, strict=True)
    ]
    _add_likeness(rows, programs, data, how)
    about = _add_robustness(rows, modules, data, clean, how)
    _add_shifted(rows, modules, how)
    for row in rows:
        row["arithmetic_joules"] = arithmetic_joules(row["macs"] / macs_batch)
    _add_speed(rows, programs, how, batch)
    return {"task": task.name, "seed": how.seed, "batch": batch, "macs_batch": macs_batch, **about, "models": rows}


def _size(program: Program, batch: int, macs_batch: int) -> dict[str, Any]:
    counted = cost(program, macs_batch)
    return {
        "macs": counted.macs,
        "parameters": counted.parameters,
        "nonzero": counted.nonzero,
        "bytes": counted.bytes,
        "activation_bytes": peak_bytes(program, batch),
    }


def _add_likeness(rows: list[dict[str, Any]], programs: list[Program], task: Task, how: Evaluation) -> None:
    for row in rows:
        row["similarity"] = None
    if how.similarity == "none" or len(programs) < 2:
        return
    how.stage("comparing representations")
    found = likenesses(programs[0], programs[1:], task, inside=how.similarity == "layers")
    for row, places in zip(rows[1:], found, strict=True):
        row["similarity"] = _similarity(places)


def _similarity(places: Sequence[Likeness]) -> dict[str, Any]:
    named = {place.place: place.as_dict() for place in places}
    return {"output": named.pop(OUTPUT, None), "layers": list(named.values())}


def _add_robustness(
    rows: list[dict[str, Any]], modules: Sequence[nn.Module], task: Task, clean: Sequence[Score], how: Evaluation
) -> dict[str, Any]:
    """Add scores on corrupted images; return what they were made of."""
    for row in rows:
        row["robustness"] = None
    about: dict[str, Any] = {"severities": list(how.severities), "left_out": {}, "pixels": None}
    if not how.corruptions:
        return about
    scale = pixel_range(task, modules[0])
    about["left_out"] = unfit(how.corruptions, scale)
    names = [name for name in how.corruptions if name not in about["left_out"]]
    if not names or not isinstance(scale, PixelRange):
        return about
    about["pixels"] = {
        "black": scale.black.flatten().tolist(), "white": scale.white.flatten().tolist(),
        "size": list(scale.size), "derived": scale.derived,
    }  # fmt: skip
    found = robustness(
        modules, task, names, scale, clean=clean, severities=how.severities, seed=how.seed, stage=how.stage
    )
    for row, own in zip(rows, found, strict=True):
        row["robustness"] = own.as_dict(found[0])
    return about


def _add_shifted(rows: list[dict[str, Any]], modules: Sequence[nn.Module], how: Evaluation) -> None:
    for row in rows:
        row["shifted"] = {}
    for name, task in how.shifted.items():
        how.stage(f"scoring on {name}")
        data = how.limited(task)
        for row, module in zip(rows, modules, strict=True):
            row["shifted"][name] = scored(data, module).as_dict()


def _add_speed(rows: list[dict[str, Any]], programs: list[Program], how: Evaluation, batch: int) -> None:
    """Add latency in PyTorch, in turns, and what is estimated from it."""
    for row in rows:
        row.update(latency_ms=None, speed=None, energy=None)
    if how.seconds <= 0:
        return
    before = torch.get_num_threads()
    try:
        _measure(rows, programs, how, batch)
    finally:
        torch.set_num_threads(before)


def _measure(rows: list[dict[str, Any]], programs: list[Program], how: Evaluation, batch: int) -> None:
    threads = how.threads or threads_here()
    how.stage("measuring latency")
    starts = [partial(torch_run, program, batch, threads) for program in programs]
    times = in_turns(starts, seconds=how.seconds, sessions=SESSIONS)
    for row, start, own in zip(rows, starts, times, strict=True):
        latency = Latency.of([sample for session in own for sample in session], threads, batch)
        row["latency_ms"] = latency.as_dict()
        row["speed"] = None if row is rows[0] else Speed.of(times[0], own).as_dict()
        how.stage("estimating energy")
        row["energy"] = measure_energy(
            start(), batch=batch, milliseconds=latency.median, meter=how.power.meter, watts=how.power.watts,
            grid=how.power.grid, country=how.power.country, seconds=min(5.0, how.seconds),
        ).as_dict()  # fmt: skip
