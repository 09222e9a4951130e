"""Retraining: a method, found by its name, trains a program that passes have changed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

from sparsify import registry
from sparsify.program import Program
from sparsify.task import Task, resolve
from sparsify.train import OnStep, Trained

__all__ = ["Method", "Retrained", "parse_method", "retrain"]

_TAIL = 10  # the loss of one batch is noise; the final loss is the mean of this many


class Method(Protocol):
    """A retraining method: a frozen dataclass whose fields are its options, one file in `sparsify/methods/`."""

    def retrain(self, program: Program, task: Task, *, seed: int, on_step: OnStep | None = None) -> Trained:
        """Return the retrained program; the same seed gives the same one."""


@dataclass(frozen=True)
class Retrained:
    """A retrained program.

    Attributes:
        program: the result.
        record: what a report says about it: `method` (canonical spec), `seed`, `steps`, `first_loss`, `final_loss`
            (mean of the last ten steps; both None without a step) and `seconds`.
    """

    program: Program
    record: dict[str, Any]


def parse_method(spec: str) -> tuple[Method, str]:
    """Return the method that a spec such as `fine-tune:steps=5ep,learning_rate=0.01` means, and its canonical spec.

    Raises:
        UsageError: there is no such method, or it has no such option.
    """
    return registry.make("sparsify.methods", spec)


def retrain(
    program: Program, spec: str, task: Task | str, *, seed: int = 0, on_step: OnStep | None = None
) -> Retrained:
    """Retrain a program with the method that `spec` names; the program is not changed.

    Args:
        program: what to retrain.
        spec: `name:key=value,...`, such as `fine-tune:steps=200it`.
        task: data and loss, or the name of a task.
        seed: of the order of the data and of dropout.
        on_step: called after every step.

    Raises:
        UsageError: the spec, the task or an option is wrong.
        TrainingError: the training diverged.
    """
    method, canonical = parse_method(spec)
    started = time.perf_counter()
    trained = method.retrain(program, resolve(task), seed=seed, on_step=on_step)
    tail = trained.losses[-_TAIL:]
    record = {
        "method": canonical,
        "seed": seed,
        "steps": len(trained.losses),
        "first_loss": trained.losses[0] if tail else None,
        "final_loss": sum(tail) / len(tail) if tail else None,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return Retrained(trained.program, record)
