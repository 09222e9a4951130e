"""`run` and `retrain`: what the Python API offers on top of programs; both return a Result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sparsify.batches import of_task
from sparsify.cost import cost
from sparsify.embedding import making
from sparsify.errors import UsageError
from sparsify.inputs import fixed_batch
from sparsify.naming import first_names
from sparsify.parallel.strategy import Kind, Parallel
from sparsify.parallel.strategy import parallel as joined_parallel
from sparsify.pass_manager import Event, Observer, PassManager
from sparsify.program import Program, check_program
from sparsify.pruning.zeros import zero_masks
from sparsify.report.record import environment
from sparsify.retrain import Retrained, retrain_together
from sparsify.retrain import retrain as run_method
from sparsify.task import Score, Task, resolve
from sparsify.tickets.ticket import Ticket
from sparsify.training.watch import OnStep
from sparsify.training.work import Listener

__all__ = ["Result", "execute", "execute_together", "retrain", "run", "score"]


@dataclass(frozen=True)
class Result:
    """What a pipeline or a retraining made.

    Attributes:
        program: the new program.
        report: what happened, JSON-able, as `report.json` holds it; `score` is the task's score, or None.
        ticket: that a retraining found.
    """

    program: Program
    report: Mapping[str, Any]
    ticket: Ticket | None = None

    def __repr__(self) -> str:
        """Say in one line what it is: a console shows this, and the report would fill it."""
        score = self.report.get("score")
        return f"<Result: {self.program!r}{'' if score is None else f', score {score:.4g}'}>"


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
    return execute(program, passes, None, task, seed, observer=observer, verify=verify)


def retrain(
    program: Program,
    method: str,
    task: Task | str,
    seed: int = 0,
    *,
    on_step: OnStep = lambda event: None,
    work: str | Path | None = None,
    listeners: Sequence[Listener] = (),
    parallel: Kind | None = None,
) -> Result:
    """Retrain a program with a method such as `fine-tune:steps=200it`; the program that is given stays as it is.

    Args:
        program: what to retrain.
        method: its spec.
        task: data, loss and score.
        seed: of everything random.
        on_step: called after every training step.
        work: a folder for checkpoints and the log; the same call goes on there where it was stopped.
        listeners: called with every event of the log, a mapping.
        parallel: `ddp` or `fsdp`, where torchrun has started several processes; each gets the result.

    Raises:
        UsageError: the method or the task does not fit.
        TrainingError: the training diverged.
    """
    check_program(program)
    folder = None if work is None else Path(work)
    with joined_parallel(parallel, next(iter(program.parameters.values())).device.type) as spread:
        return execute(program, (), method, task, seed, on_step=on_step, work=folder, listeners=listeners,
                       parallel=spread)  # fmt: skip


def execute(
    program: Program,
    passes: Iterable[str],
    method: str | None,
    task: Task | str | None,
    seed: int,
    *,
    observer: Observer | None = None,
    on_step: OnStep = lambda event: None,
    work: Path | None = None,
    listeners: Sequence[Listener] = (),
    verify: bool = True,
    check: Callable[[Program], None] = lambda program: None,
    dense: Mapping[str, Any] | None = None,
    parallel: Parallel | None = None,
) -> Result:
    """Run passes, then a retraining method if there is one, and report on both.

    A pass that lowers, and what follows it, runs behind the retraining: what stays dense has no masks any more, so that
    a retraining would fill its zeros.

    Args:
        program: what to start from; it stays as it is.
        passes: specs, in order.
        method: the spec of a retraining, or None.
        task: data, loss and score.
        seed: of everything random.
        observer: called at every step of the passes.
        on_step: called after every training step.
        work: a folder for checkpoints and the log.
        listeners: called with every event of the log.
        verify: check the program and the pass's contract after every pass.
        check: called with what the passes before the retraining made; it may raise.
        dense: the score of the program, if it is known.
        parallel: the processes that do the retraining together; all run the passes.

    Raises:
        UsageError: a spec does not fit, or a method is given without a task.
        SparsifyError: what `run` and `retrain` raise.
    """
    check_program(program)
    if isinstance(passes, str):
        raise UsageError(f"passes must be a list of specs: [{passes!r}].")
    first, last = _split(passes, method)
    passed = _passed(program, first, method, task, seed, observer=observer, verify=verify, check=check, dense=dense)
    if method is None or passed.task is None:
        return _result(passed, None)
    retrained = run_method(
        passed.program, method, passed.task, seed=seed, on_step=on_step, folder=work, listeners=listeners,
        parallel=parallel,
    )  # fmt: skip
    if parallel is not None and not parallel.ranks.leads:
        last = ()  # the first process measures alone, and its result is the one that is written
    return _result(passed, _lowered(retrained, last, passed, observer=observer, verify=verify))


def execute_together(
    program: Program,
    passes: Iterable[str],
    method: str,
    task: Task | str,
    seeds: Sequence[int],
    *,
    dense: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Do what `execute` does for each of some seeds, with one training for all of them.

    Args:
        program: what to start from; it stays as it is.
        passes: specs, in order.
        method: the spec of a retraining.
        task: data, loss and score.
        seeds: of everything random.
        dense: the score of the program, if it is known.

    Raises:
        CannotTogether: these trainings cannot be one.
        SparsifyError: what `execute` raises.
    """
    first, last = _split(passes, method)
    passed = [_passed(program, first, method, task, seed, dense=dense) for seed in seeds]
    known = resolve(task)
    trained = retrain_together([one.program for one in passed], method, known, seeds)
    return [_result(one, _lowered(retrained, last, one)) for one, retrained in zip(passed, trained, strict=True)]


def _split(passes: Iterable[str], method: str | None) -> tuple[Sequence[str], Sequence[str]]:
    """Return the specs of passes before a retraining, and of those behind it: from the first on that lowers."""
    manager = PassManager(passes)
    lowering = (number for number, step in enumerate(manager.passes) if step.lowers and method is not None)
    cut = next(lowering, len(manager.specs))
    return manager.specs[:cut], manager.specs[cut:]


def _lowered(
    retrained: Retrained,
    specs: Sequence[str],
    passed: _Passed,
    *,
    observer: Observer | None = None,
    verify: bool = True,
) -> Retrained:
    """Run passes behind a retraining; the report says that they are."""
    before = len(passed.steps)
    manager = PassManager(specs, _recorder(passed.steps, observer), verify=verify)
    program = manager.run(retrained.program, task=passed.task, seed=passed.seed)
    for step in passed.steps[before:]:
        step["behind_retraining"] = True
    return replace(retrained, program=program)


@dataclass(frozen=True)
class _Passed:
    """What passes have made of a program, and what is to be reported of it."""

    before: Program
    program: Program
    task: Task | None
    seed: int
    steps: list[dict[str, Any]]
    scores: dict[str, Any]
    pruned: dict[str, Any] | None
    zeros: list[str]


def _passed(
    program: Program,
    passes: Iterable[str],
    method: str | None,
    task: Task | str | None,
    seed: int,
    *,
    observer: Observer | None = None,
    verify: bool = True,
    check: Callable[[Program], None] = lambda program: None,
    dense: Mapping[str, Any] | None = None,
) -> _Passed:
    steps: list[dict[str, Any]] = []
    known = None if task is None else resolve(task)
    manager = PassManager(passes, _recorder(steps, observer), verify=verify)
    if method is not None and known is None:
        raise UsageError("Retraining needs data and a loss: give a task (digits, my_task.py:make).")
    scores = {} if known is None else {"before": dict(dense) if dense is not None else score(program, known)}
    after = manager.run(program, task=known, seed=seed)
    check(after)
    zeros, pruned = [name for name, _ in zero_masks(after)], None
    if method is not None and known is not None and steps:
        scores["pruned"], pruned = score(after, known), cost(after).as_dict()
    return _Passed(program, after, known, seed, steps, scores, pruned, zeros)


def _result(passed: _Passed, retrained: Retrained | None) -> Result:
    after = passed.program if retrained is None else retrained.program
    scores = dict(passed.scores)
    if passed.task is not None:
        scores["after"] = score(after, passed.task)
    report = {
        "schema": 1,
        "pipeline": list(after.history),
        "seed": passed.seed,
        "before": cost(passed.before).as_dict(),
        "pruned": passed.pruned,
        "after": cost(after).as_dict(),
        "dynamic_batch": after.dynamic_batch,
        "macs_batch": fixed_batch(after) or 1,
        "passes": passed.steps,
        "retrain": None if retrained is None else retrained.record,
        "score": scores["after"]["value"] if scores else None,
        "scores": scores or None,
        "notes": [
            *after.notes,
            *_masks_left(after, retrained=retrained is not None),
            *_zeros_without_masks(passed.zeros, after, retrained=retrained is not None),
        ],
        "environment": environment(),
    }
    return Result(after, report, None if retrained is None else retrained.ticket)


def _zeros_without_masks(names: list[str], after: Program, *, retrained: bool) -> list[str]:
    """Say what becomes of zeros that no mask holds, such as those of a model that was pruned elsewhere."""
    if retrained:
        held = {*after.masks, *after.frozen, *(name for name, _ in zero_masks(after))}
        names = [name for name in names if name not in held]
    if not names:
        return []
    which = first_names(names)
    if retrained:
        moved = "so the retraining moved them. The pass mask-zeros, in front of it, keeps them"
        return [f"{which} had zeros that no mask held, {moved}."]
    words = "files leave them out with --storage packed or auto; a retraining moves them unless mask-zeros came first"
    return [f"{which} {'have' if len(names) > 1 else 'has'} zeros that no mask holds: {words}."]


def _masks_left(program: Program, *, retrained: bool) -> list[str]:
    read = {str(node.target) for node in making(program.graph) if node.op == "get_attr"}
    weights, coefficients = 0, 0
    for name, mask in program.masks.items():
        gone = mask.numel() - int(mask.count_nonzero())
        weights, coefficients = (weights, coefficients + gone) if name in read else (weights + gone, coefficients)
    notes = []
    if weights:
        more = "" if retrained else "; the pass reconstruct (no labels needed) and --retrain win accuracy back"
        text = f"{weights:,} weights are masked: they are zeros, which files leave out with --storage packed or auto"
        notes.append(f"{text}. The pass shrink removes whole channels{more}.")
    if coefficients:
        text = f"{coefficients:,} of the values that embedded weights are made of are masked"
        notes.append(f"{text}; the weights themselves need not have zeros.")
    return notes


def score(program: Program, task: Task) -> dict[str, Any]:
    """Return the task's score of a program: `value`, `name`, `n` and the 95% `interval`.

    Raises:
        UsageError: the task's own code failed.
    """
    with of_task(task, "score the model"), torch.no_grad():
        found = task.score(program.module(copy=False))
    if not isinstance(found, Score):
        raise UsageError(f"The task {task.name} must return a sparsify.Score from score, not {type(found).__name__}.")
    return found.as_dict()


def _recorder(steps: list[dict[str, Any]], observer: Observer | None) -> Observer:
    def record(event: Event) -> None:
        if event.kind == "transformed":
            steps.append({"pass": event.spec, "seconds": round(event.seconds, 4), **event.record})
        elif event.kind == "verified":
            steps[-1].update(verify_seconds=round(event.seconds, 4), **event.record)
        if observer is not None:
            observer(event)

    return record
