"""Retraining: a method, found by its name, trains a program that passes have changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sparsify import registry
from sparsify.digest import digest, digest_with_data
from sparsify.observation.calibration import Calibration
from sparsify.program import Program
from sparsify.task import Task, resolve
from sparsify.tickets.ticket import Ticket
from sparsify.training.train import OnStep, Trained
from sparsify.training.work import Listener, Work

__all__ = ["Method", "Retrained", "parse_method", "retrain"]

_TAIL = 10  # the loss of one batch is noise; the final loss is the mean of this many


class Method(Protocol):
    """A retraining method: a frozen dataclass whose fields are its options, one file in `sparsify/methods/`.

    Attributes:
        finds_ticket: its result can be written to a `.ticket` file.
    """

    finds_ticket: ClassVar[bool]

    def retrain(self, program: Program, task: Task, *, seed: int, work: Work) -> Trained:
        """Return the retrained program; the same seed gives the same one. Trainings go through `work.train`."""


@dataclass(frozen=True)
class Retrained:
    """A retrained program.

    Attributes:
        program: the result.
        record: what a report says about it: `method` (canonical spec), `seed`, `steps`, `first_loss`, `final_loss`
            (mean of the last ten steps; both None without a step) and `seconds`; `curve` where scores were measured on
            the way; and what the method tells.
        ticket: that the method found.
    """

    program: Program
    record: dict[str, Any]
    ticket: Ticket | None = None


def parse_method(spec: str) -> tuple[Method, str]:
    """Return the method that a spec such as `fine-tune:steps=5ep,learning_rate=0.01` means, and its canonical spec.

    Raises:
        UsageError: there is no such method, or it has no such option.
    """
    return registry.make("sparsify.methods", spec)


def retrain(
    program: Program,
    spec: str,
    task: Task | str,
    *,
    seed: int = 0,
    on_step: OnStep = lambda event: None,
    folder: Path | None = None,
    listeners: Sequence[Listener] = (),
) -> Retrained:
    """Retrain a program with the method that `spec` names; the program is not changed.

    Args:
        program: what to retrain.
        spec: `name:key=value,...`, such as `fine-tune:steps=200it`.
        task: data and loss, or the name of a task.
        seed: of the order of the data and of dropout.
        on_step: called after every step.
        folder: where the retraining is kept; the same call goes on there.
        listeners: told what is logged.

    Raises:
        UsageError: the spec, the task or an option is wrong, or the folder holds another retraining.
        TrainingError: the training diverged.
        InputError: the folder cannot be used.
        KeyboardInterrupt: the user pressed Ctrl-C; its text says whether the same call goes on.
    """
    method, canonical = parse_method(spec)
    known = resolve(task)
    started = time.perf_counter()
    identity = {"method": canonical, "task": known.name, "seed": seed}
    if folder is not None:
        identity["model"] = digest(program)
        identity["data"] = digest_with_data(program, Calibration(known, 1, seed))  # another batch size, other files
    work = Work(folder, identity, on_step=on_step, listeners=tuple(listeners))
    try:
        trained = method.retrain(program, known, seed=seed, work=work)
    except KeyboardInterrupt:
        if folder is None:
            raise
        raise KeyboardInterrupt(f"Interrupted. The same command goes on; {folder} keeps what was done.") from None
    finally:
        work.close()
    tail = trained.losses[-_TAIL:]
    record = {
        "method": canonical,
        "seed": seed,
        "steps": len(trained.losses),
        "first_loss": trained.losses[0] if tail else None,
        "final_loss": sum(tail) / len(tail) if tail else None,
        **({"curve": list(trained.curve)} if trained.curve else {}),
        **trained.record,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return Retrained(trained.program, record, trained.tickets[-1] if trained.tickets else None)
