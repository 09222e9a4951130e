"""Schedules: how a quantity falls over a run, and how lengths of runs are written: `500it`, `10ep`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal, TypeAlias

from sparsify.errors import UsageError

__all__ = ["Rounds", "Shape", "parse_steps", "remaining", "sparsities", "warm"]

Shape: TypeAlias = Literal["constant", "linear", "cubic", "cosine"]
Rounds: TypeAlias = Literal["one-shot", "linear", "cubic", "cosine", "exponential", "iterative"]

_SHAPES: dict[Shape, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda t: 1 - t,
    "cubic": lambda t: (1 - t) ** 3,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
}
_STEPS = re.compile(r"(\d+)it|(\d+(?:\.\d+)?)ep")


def remaining(shape: Shape, progress: float) -> float:
    """Return how much of a falling quantity is left: 1 at the start of a run and, unless constant, 0 at its end.

    A learning rate is `rate · remaining`; a sparsity that rises from a to b is `b + (a - b) · remaining`.

    Args:
        shape: of the fall.
        progress: the share of the run that is over; clamped to [0, 1].
    """
    return _SHAPES[shape](min(1.0, max(0.0, progress)))


def sparsities(schedule: Rounds, target: float, rounds: int, rate: float = 0.2) -> list[float]:
    """Return the sparsity after each round of pruning; the last one is the target.

    `exponential` multiplies the density by the same factor in every round. `iterative` prunes the fraction `rate` of
    what is left, in as many rounds as that takes: log(1 - target) / log(1 - rate). `linear`, `cubic` and `cosine` are
    the shapes of `remaining`.

    Reference: Zhu and Gupta, "To Prune, or Not to Prune", 2017 (cubic); Tanaka et al., "Pruning Neural Networks
    without Any Data by Iteratively Conserving Synaptic Flow", 2020 (exponential); Frankle and Carbin, "The Lottery
    Ticket Hypothesis", 2019 (iterative).

    Raises:
        UsageError: rounds, rate or target are out of range.
    """
    if rounds < 1 or not 0 < rate < 1 or not 0 <= target < 1:
        raise UsageError(f"Pruning in rounds: rounds={rounds}, rate={rate} or sparsity={target} is out of its range.")
    if schedule == "one-shot" or target == 0:
        return [target]
    if schedule == "iterative":
        rounds = max(1, math.ceil(math.log(1 - target) / math.log(1 - rate) - 1e-9))
        return [*(1 - (1 - rate) ** k for k in range(1, rounds)), target]
    if schedule == "exponential":
        return [*(1 - (1 - target) ** (k / rounds) for k in range(1, rounds)), target]
    return [target * (1 - remaining(schedule, k / rounds)) for k in range(1, rounds + 1)]


def warm(shape: Shape, step: int, steps: int, warmup: int) -> float:
    """Return the factor of the learning rate at a step: a linear rise over `warmup` steps, then the fall of `shape`.

    Args:
        shape: of the fall.
        step: counted from 0; the first steps of a rise are 1/warmup, 2/warmup, ...
        steps: the whole run.
        warmup: the length of the rise, at most `steps`.
    """
    if step < warmup:
        return (step + 1) / warmup
    return remaining(shape, (step - warmup) / max(1, steps - warmup))


def parse_steps(text: str, steps_per_epoch: int | Callable[[], int]) -> int:
    """Return the number of steps that `500it` (iterations), `10ep` or `0.5ep` (epochs) mean.

    Args:
        text: what the user wrote.
        steps_per_epoch: the number, or a function that finds it, called only for epochs.

    Raises:
        UsageError: the text has another form.
    """
    match = _STEPS.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{text!r} is not a number of steps: write iterations as 500it or epochs as 10ep.")
    if match[1]:
        return int(match[1])
    length = steps_per_epoch if isinstance(steps_per_epoch, int) else steps_per_epoch()
    return round(float(match[2]) * length)
