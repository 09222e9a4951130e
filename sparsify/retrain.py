"""Retraining: a method, found by its name, trains a program that passes have changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sparsify import registry
from sparsify.digest import digest, digest_with_data
from sparsify.errors import InputError
from sparsify.observation.calibration import Calibration
from sparsify.parallel.strategy import Parallel
from sparsify.program import Program
from sparsify.task import Task, resolve
from sparsify.tickets.ticket import Ticket
from sparsify.training.batched import CannotTogether, train_together
from sparsify.training.train import Trained
from sparsify.training.train_options import TrainOptions
from sparsify.training.watch import OnStep
from sparsify.training.work import Listener, Work

__all__ = ["Method", "Retrained", "parse_method", "plain_options", "retrain", "retrain_together"]

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
    parallel: Parallel | None = None,
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
        parallel: the processes that do it together, each of which calls this.

    Raises:
        UsageError: the spec, the task or an option is wrong, or the folder holds another retraining.
        TrainingError: the training diverged.
        InputError: the folder cannot be used, or the processes have not made the same program.
        KeyboardInterrupt: the user pressed Ctrl-C; its text says whether the same call goes on.
    """
    method, canonical = parse_method(spec)
    known = resolve(task)
    started = time.perf_counter()
    spread = parallel or Parallel()
    model = None if folder is None and spread.kind is None else digest(program)
    if not spread.ranks.same(model):
        raise InputError(
            "The processes of this run do not have the same program before the retraining: its passes compute other "
            "bits on other machines, or the task is random. Run the passes alone, in one process, with -o model.pt2, "
            "and retrain that file."
        )
    identity = {"method": canonical, "task": known.name, "seed": seed}
    if folder is not None:
        identity["model"] = model
        identity["data"] = digest_with_data(program, Calibration(known, 1, seed))  # another batch size, other files
    work = Work(folder, identity, on_step=on_step, listeners=tuple(listeners), parallel=parallel)
    try:
        trained = method.retrain(program, known, seed=seed, work=work)
    except KeyboardInterrupt:
        if folder is None:
            raise
        raise KeyboardInterrupt(f"Interrupted. The same command goes on; {folder} keeps what was done.") from None
    finally:
        work.close()
    found = _retrained(trained, canonical, seed, time.perf_counter() - started)
    return replace(found, record={**found.record, **spread.record})


def retrain_together(programs: Sequence[Program], spec: str, task: Task, seeds: Sequence[int]) -> list[Retrained]:
    """Retrain several programs in one training, each with its seed; up to the order of sums it is what `retrain` does.

    Args:
        programs: of the same graph and sizes, such as those that passes made of one program with several seeds.
        spec: of the method.
        task: data and loss.
        seeds: of each program.

    Raises:
        CannotTogether: these trainings cannot be one.
    """
    method, canonical = parse_method(spec)
    options = plain_options(method)
    if options is None:
        raise CannotTogether(f"{canonical} is more than one plain training")
    started = time.perf_counter()
    trained = train_together(programs, task, options, seeds)
    seconds = (time.perf_counter() - started) / len(seeds)
    found = [_retrained(one, canonical, seed, seconds) for one, seed in zip(trained, seeds, strict=True)]
    return [replace(one, record={**one.record, "together": len(seeds)}) for one in found]


def plain_options(method: Method) -> TrainOptions | None:
    """Return the options of a method that is one training with them and nothing else; None of others."""
    return method if isinstance(method, TrainOptions) and getattr(method, "plain", False) else None


def _retrained(trained: Trained, canonical: str, seed: int, seconds: float) -> Retrained:
    tail = trained.losses[-_TAIL:]
    record = {
        "method": canonical,
        "seed": seed,
        "steps": len(trained.losses),
        "first_loss": trained.losses[0] if tail else None,
        "final_loss": sum(tail) / len(tail) if tail else None,
        **({"curve": list(trained.curve)} if trained.curve else {}),
        **trained.record,
        "seconds": round(seconds, 3),
    }
    return Retrained(trained.program, record, trained.tickets[-1] if trained.tickets else None)
