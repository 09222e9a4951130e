"""Intrinsic dimension: how many values must be trained, in a random subspace, for a score near that of all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from sparsify.batches import epoch_length, of_task
from sparsify.embeddings.projection import projection
from sparsify.errors import OptionError, UsageError
from sparsify.program import Program
from sparsify.pruning.candidates import candidates
from sparsify.schedules import parse_steps
from sparsify.task import Task
from sparsify.training.train import Trained
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

__all__ = ["Intrinsic", "smallest"]

_STRIDE = 4  # steps of the grid that the search takes at once until a dimension is enough


@dataclass(frozen=True)
class Intrinsic(TrainOptions):
    """Train d values that move all parameters in a random subspace, Θ = Θ0 + √(D/d) P ϑ; or find the d that is enough.

    With dimension= that one is trained. Without it all parameters are trained first, as a baseline, then dimensions of
    a geometric grid, from `low` on in steps of four until one reaches `reach` of the baseline's score, then between it
    and the last that did not, halving. The smallest that was seen to reach it is the intrinsic dimension d90. What
    comes out is made of ϑ, the parameters at the start and a seed; the pass fold writes it out. A program that reaches
    the goal before a step is trained is refused.

    Attributes:
        steps: length of every training, `500it` or `10ep`.
        learning_rate: its highest value; few dimensions need a smaller one than the whole network.
        dimension: d; without it it is searched for.
        reach: which share of the baseline's score is enough.
        low: the smallest dimension that is tried.
        ratio: between neighbours of the grid.
        over: all is every parameter; weights, those of layers alone, while biases and norms stay as they are.

    Reference: Li et al., "Measuring the Intrinsic Dimension of Objective Landscapes", 2018.

    Raises:
        UsageError: a value is out of its range.
    """

    refuses: ClassVar[tuple[str, ...]] = ("compact",)

    steps: str = "20ep"
    learning_rate: float = 0.02
    dimension: int | None = None
    reach: float = 0.9
    low: int = 10
    ratio: float = 1.2
    over: Literal["all", "weights"] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dimension", "low"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"intrinsic: {name}={value} is less than 1.")
        if not 0 < self.reach <= 1:
            raise UsageError(f"intrinsic: reach={self.reach} is not in (0, 1].")
        if not self.ratio > 1:
            raise UsageError(f"intrinsic: ratio={self.ratio} is not above 1.")

    def retrain(self, program: Program, task: Task, *, seed: int, work: Work) -> Trained:
        """Train one dimension, or search."""
        total = sum(program.parameters[name].numel() for name in self._names(program))
        if self.dimension is not None:
            trained, score = self._trained(program, task, self.dimension, seed=seed, work=work)
            record = {"dimensions": [{"dimension": self.dimension, "score": score}], "parameters": total}
            return replace(trained, record=record)
        steps = parse_steps(self.steps, lambda: epoch_length(task))
        grid = _grid(self.low, total, self.ratio)
        work.expect(steps * (2 + math.ceil(len(grid) / _STRIDE / 2) + int(math.log2(_STRIDE))))
        dense = work.train("baseline", program, task, self, seed=seed)
        baseline = _score(dense.program, task)
        if baseline <= 0:
            raise OptionError(f"intrinsic: the baseline's score is {baseline:g}, of which reach= cannot be a share.")
        start = self._start(program, task, baseline)
        work.log("goal", score=self.reach * baseline, baseline=baseline, start=start)
        tried: dict[int, tuple[Trained, float]] = {}

        def enough(dimension: int) -> bool:
            tried[dimension] = self._trained(program, task, dimension, seed=seed, work=work)
            return tried[dimension][1] >= self.reach * baseline

        found = smallest(grid, enough)
        if found is None:
            work.warn(
                f"No dimension up to {max(tried):,} reaches {self.reach:g} of the baseline's score {baseline:.4f}. "
                "More steps= or another learning_rate= may."
            )
        trained, score = tried[max(tried) if found is None else found]
        record = {
            "parameters": total, "start": start, "baseline": baseline, "reach": self.reach, "d90": found,
            "score": score, "dimensions": [{"dimension": d, "score": tried[d][1]} for d in sorted(tried)],
        }  # fmt: skip
        return replace(trained, record=record)

    def _start(self, program: Program, task: Task, baseline: float) -> float:
        """Return the score before a step is trained.

        Raises:
            OptionError: it is enough already, so that every dimension would be.
        """
        start = _score(program, task)
        if start >= self.reach * baseline:
            raise OptionError(
                f"intrinsic: before a step is trained the score is {start:.4f}, and reach={self.reach:g} of the "
                f"{baseline:.4f} of all parameters asks for {self.reach * baseline:.4f}: no dimension is needed, so a "
                "search finds nothing. A model that is trained already starts again with --pass redraw before this; "
                "where all parameters learn nothing, give more steps= or another learning_rate=; or a larger reach=."
            )
        return start

    def _names(self, program: Program) -> list[str]:
        if self.over == "weights":
            return list(candidates(program).layouts)
        return [name for name, value in program.parameters.items() if value.requires_grad]

    def _trained(self, program: Program, task: Task, dimension: int, *, seed: int, work: Work) -> tuple[Trained, float]:
        names = self._names(program)
        small = _only(projection(program, names, dimension, seed=seed), "coordinates")
        trained = work.train(f"dimension-{dimension}", small, task, self, seed=seed)
        score = _score(trained.program, task)
        work.log("tried", dimension=dimension, score=score)
        wanted = {name: value.requires_grad for name, value in program.parameters.items()}
        return replace(trained, program=_restored(trained.program, wanted)), score


def smallest(grid: list[int], enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number of a rising grid that is enough, if all above it are; None if not even the last is.

    It is tried in strides until one is enough, and then by halving.
    """
    below, index = -1, min(_STRIDE, len(grid)) - 1
    while not enough(grid[index]):
        if index == len(grid) - 1:
            return None
        below, index = index, min(index + _STRIDE, len(grid) - 1)
    while index - below > 1:
        middle = (below + index) // 2
        below, index = (below, middle) if enough(grid[middle]) else (middle, index)
    return grid[index]


def _grid(low: int, high: int, ratio: float) -> list[int]:
    steps = max(0, math.floor(math.log(high / low, ratio) + 1e-9)) if low < high else 0
    return sorted({min(high, round(low * ratio**step)) for step in range(steps + 1)} | {high})


def _score(program: Program, task: Task) -> float:
    with of_task(task, "score the model"), torch.no_grad():
        return task.score(program.module(copy=False)).value


def _only(program: Program, trained: str) -> Program:
    """Return the program with one trained parameter; new ones begin with its name."""
    return _restored(program, dict.fromkeys(program.parameters, False) | {_newest(program, trained): True})


def _newest(program: Program, name: str) -> str:
    return max((known for known in program.parameters if known.rstrip("_") == name), key=len)


def _restored(program: Program, wanted: dict[str, Any]) -> Program:
    """Return the program with parameters that have gradients, or have none, as it says; others have one."""
    parameters = {
        name: nn.Parameter(value.detach(), requires_grad=wanted.get(name, True))
        for name, value in program.parameters.items()
    }
    return replace(program, parameters=parameters)
