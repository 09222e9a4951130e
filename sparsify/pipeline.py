"""`run` and `retrain`: what the Python API offers on top of programs; both return a Result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsify.cost import cost
from sparsify.pass_manager import Event, Observer, PassManager
from sparsify.program import Program
from sparsify.report.record import environment
from sparsify.retrain import retrain as _retrain
from sparsify.task import Task, resolve
from sparsify.train import OnStep

__all__ = ["Result", "retrain", "run", "score"]


@dataclass(frozen=True)
class Result:
    """What a pipeline or a retraining made.

    Attributes:
        program: the new program.
        report: what happened, JSON-able, as `report.json` holds it; `score` is the task's score, or None.
    """

    program: Program
    report: Mapping[str, Any]


def run(
    program: Program,
    passes: Iterable[str],
    task: Task | str | None = None,
    seed: int = 0,
    *,
    observer: Observer | None = None,
    verify: bool = True,
) -> Result:
    """Run passes over a program and check it after each; the program that is given stays as it is.

    Args:
        program: what to transform.
        passes: specs such as `layer-prune:count=2`, in order.
        task: data for criteria and for the score.
        seed: of everything random.
        observer: called at every step.
        verify: check the program and the pass's contract after every pass.

    Raises:
        UsageError: a spec or the task does not fit.
        PassError: a pass refuses or fails.
        ContractError: a pass changed what it must keep.
    """
    steps: list[dict[str, Any]] = []

    def note(event: Event) -> None:
        if event.kind == "transformed":
            steps.append({"pass": event.spec, "seconds": round(event.seconds, 4), **event.record})
        elif event.kind == "verified":
            steps[-1].update(verify_seconds=round(event.seconds, 4), **event.record)
        if observer is not None:
            observer(event)

    known = None if task is None else resolve(task)
    manager = PassManager(passes, note, verify=verify)
    after = manager.run(program, task=known, seed=seed)
    return Result(after, {**_summary(program, after, known, seed), "passes": steps})


def retrain(program: Program, method: str, task: Task | str, seed: int = 0, *, on_step: OnStep | None = None) -> Result:
    """Retrain a program with a method such as `fine-tune:steps=200it`; the program that is given stays as it is.

    Raises:
        UsageError: the method or the task does not fit.
        TrainingError: the training diverged.
    """
    known = resolve(task)
    result = _retrain(program, method, known, seed=seed, on_step=on_step)
    return Result(result.program, {**_summary(program, result.program, known, seed), "retrain": result.record})


def score(program: Program, task: Task) -> dict[str, Any]:
    """Return the task's score of a program: `value`, `name`, `n` and the 95% `interval`."""
    found = task.score(program.module(copy=False))
    return {"value": found.value, "name": found.name, "n": found.n, "interval": found.interval}


def _summary(before: Program, after: Program, task: Task | None, seed: int) -> dict[str, Any]:
    scores = None if task is None else {"before": score(before, task), "after": score(after, task)}
    return {
        "schema": 1,
        "pipeline": list(after.history),
        "seed": seed,
        "before": cost(before).as_dict(),
        "after": cost(after).as_dict(),
        "score": None if scores is None else scores["after"]["value"],
        "scores": scores,
        "notes": list(after.notes),
        "environment": environment(),
    }
