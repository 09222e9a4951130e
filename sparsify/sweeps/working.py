"""Working: trials are taken from the store and run, until none is left."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from sparsify.errors import SparsifyError, first_line
from sparsify.load import load
from sparsify.pipeline import Result, execute, execute_together, score
from sparsify.program import Program
from sparsify.retrain import parse_method, plain_options
from sparsify.sweeps.store import Claim, Outcome, Store, trial_folder
from sparsify.sweeps.trials import Cell, Sweep, Trial
from sparsify.task import example_inputs, resolve
from sparsify.training.batched import CannotTogether, together_pays

__all__ = ["Runner", "run_here", "take"]

_PATIENCE = 0.3  # seconds until a worker looks again for a trial that another process had


class Runner:
    """Runs trials in this process; of models it keeps the last one, with its score.

    Args:
        sweep: what the trials are of.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._task = resolve(sweep.task)
        self._model: tuple[str, Program, dict[str, Any]] | None = None
        self._pays: dict[tuple[str, str, int], tuple[bool, str]] = {}

    def run(self, trials: Sequence[Trial]) -> Iterator[Outcome]:
        """Yield what becomes of each of some trials, which are seeds of the same cell.

        Raises:
            KeyboardInterrupt: of Ctrl-C; what a trial has done so far is kept.
        """
        made = self.together(trials) if len(trials) > 1 else ""
        yield from (self.alone(trial, made) for trial in trials) if isinstance(made, str) else made

    def together(self, trials: Sequence[Trial]) -> list[Outcome] | str:
        """Return what becomes of trials that are trained at once; where they cannot be, why not."""
        started, cell = time.perf_counter(), trials[0].cell
        try:
            program, dense = self._loaded(cell.model)
            seeds = [trial.seed for trial in trials]
            results = execute_together(program, cell.passes, str(cell.retrain), self._task, seeds, dense=dense)
        except CannotTogether as error:
            return first_line(error)
        except SparsifyError:  # one by one it shows whose fault it is
            return ""
        seconds = (time.perf_counter() - started) / len(trials)
        return [self._told(trial, result, seconds) for trial, result in zip(trials, results, strict=True)]

    def alone(self, trial: Trial, why: str = "") -> Outcome:
        """Return what becomes of a trial; what goes wrong is its own, and the other trials go on.

        Args:
            trial: to run.
            why: it is not trained together with other seeds, for its report.
        """
        try:
            return self._alone(trial, why or self._never(trial))
        except SparsifyError as error:
            return {"error": str(error), "trace": traceback.format_exc()}
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is this trial's
            return {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}

    def at_once(self, cell: Cell, seeds: Sequence[int]) -> int:
        """Return how many of some seeds of a cell are trained at once."""
        seeds = seeds[: self._sweep.most]
        options = None if cell.retrain is None else plain_options(parse_method(cell.retrain)[0])
        if self._sweep.together == "no" or options is None or len(seeds) < 2:
            return 1
        if self._sweep.together == "yes":
            return len(seeds)
        case = (cell.model, str(cell.retrain), len(seeds))
        if case not in self._pays:
            try:
                program, _ = self._loaded(cell.model)
                self._pays[case] = together_pays(program, self._task, options, seeds)
            except SparsifyError as error:  # which a trial tells in its place
                self._pays[case] = (False, str(error))
        return len(seeds) if self._pays[case][0] else 1

    def _never(self, trial: Trial) -> str:
        """Say why seeds of a trial's cell are not tried at once though that was asked for; empty if they are."""
        sweep, cell = self._sweep, trial.cell
        several = any(other.cell == cell and other.key != trial.key for other in sweep.trials)
        if sweep.together != "yes" or cell.retrain is None or not several:
            return ""
        if plain_options(parse_method(cell.retrain)[0]) is None:
            return f"{cell.retrain} is more than one plain training"
        return "" if sweep.most > 1 else "there are few trials for so many --jobs"

    def _alone(self, trial: Trial, why: str) -> Outcome:
        started, cell = time.perf_counter(), trial.cell
        program, dense = self._loaded(cell.model)
        work = trial_folder(self._sweep.folder, trial) / "work"
        result = execute(program, cell.passes, cell.retrain, self._task, trial.seed, work=work, dense=dense)
        return self._told(trial, result, time.perf_counter() - started, why)

    def _loaded(self, model: str) -> tuple[Program, dict[str, Any]]:
        """Return a model and its score."""
        if self._model is None or self._model[0] != model:
            sweep = self._sweep
            program = load(
                model, sweep.inputs, trust=sweep.trust, factory=sweep.factory, device=sweep.device,
                example=example_inputs(self._task),
            )  # fmt: skip
            self._model = (model, program, score(program, self._task))
        return self._model[1], self._model[2]

    def _told(self, trial: Trial, result: Result, seconds: float, why: str = "") -> Outcome:
        value = result.report["score"]
        if math.isnan(value):
            return {"error": "its score is not a number (NaN)"}
        told = {
            "model": trial.cell.model, "command": trial.command, "key": trial.key,
            "threads": torch.get_num_threads(), "seconds": round(seconds, 3),
            **({"one_by_one": why} if why else {}),
        }  # fmt: skip
        return {"report": {**result.report, **told}}


def take(store: Store, sweep: Sweep, runner: Runner) -> list[Claim]:
    """Take the next trial from the store, and with it other seeds of its cell that are trained at once."""
    first = store.claim(sweep.trials)
    if first is None:
        return []
    cell = first.trial.cell
    others = [trial for trial in sweep.trials if trial.cell == cell and trial.key != first.trial.key]
    wanted = runner.at_once(cell, [first.trial.seed, *(trial.seed for trial in store.waiting(others))])
    claims = [first]
    while len(claims) < wanted and (claim := store.claim(others)) is not None:
        claims.append(claim)
    return claims


def run_here(sweep: Sweep, on_trial: Callable[[], None] = lambda: None) -> None:
    """Run trials in this process until all of the sweep are done, by this one or by others.

    Args:
        sweep: what to run.
        on_trial: called when trials are done, and while others are waited for.

    Raises:
        KeyboardInterrupt: of Ctrl-C; trials that were not done wait for others.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(sweep.threads)
    try:
        store, runner = Store(sweep.folder), Runner(sweep)
        while True:
            claims = take(store, sweep, runner)
            if claims:
                _run(store, runner, claims)
            elif store.open(sweep.trials):
                time.sleep(_PATIENCE)
            else:
                return
            on_trial()
    finally:
        torch.set_num_threads(threads)


def _run(store: Store, runner: Runner, claims: list[Claim]) -> None:
    open_claims = list(claims)
    try:
        for claim, outcome in zip(claims, runner.run([claim.trial for claim in claims]), strict=True):
            open_claims.remove(claim)
            store.settle(claim, outcome)
    finally:
        for claim in open_claims:
            store.put_back(claim)
