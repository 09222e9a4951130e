"""The work folder of a retraining: its log, its checkpoints, and what it has finished."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sparsify.atomic import writing
from sparsify.errors import InputError, UsageError
from sparsify.mask_updates import MaskUpdate
from sparsify.naming import first_names
from sparsify.parallel.strategy import Parallel
from sparsify.program import Program
from sparsify.task import Task
from sparsify.training.checkpoints import Checkpoints
from sparsify.training.log import Log
from sparsify.training.train import Trained, TrainingError, train
from sparsify.training.train_options import TrainOptions
from sparsify.training.watch import OnStep, StepEvent, Watch

__all__ = ["Listener", "Work"]

_RUN = "run.json"
_LOG = "log.jsonl"
_LINES = 200  # of steps in the log, for each training

Listener = Callable[[Mapping[str, Any]], None]


class Work:
    """Keeps what a retraining does, so that the same command goes on where it was stopped.

    A retraining is a sequence of trainings, each with a name. What is finished is read back; what was under way goes
    on from its last checkpoint. `run.json` says what the folder belongs to, `log.jsonl` what happened.

    Args:
        folder: where; without one nothing is kept.
        identity: what the retraining is; a folder of another one is refused.
        seconds: between checkpoints.
        on_step: called after every training step.
        listeners: told every event that goes to the log.
        parallel: the processes that do the retraining together; the first one writes what others read, too.

    Raises:
        UsageError: the folder belongs to another retraining, or another process works there.
        InputError: it cannot be made.
    """

    def __init__(
        self,
        folder: Path | None = None,
        identity: Mapping[str, Any] | None = None,
        *,
        seconds: float = 60.0,
        on_step: OnStep = lambda event: None,
        listeners: tuple[Listener, ...] = (),
        parallel: Parallel | None = None,
    ) -> None:
        self._folder, self._seconds, self._on_step, self._listeners = folder, seconds, on_step, listeners
        self._parallel = parallel or Parallel()
        self._log: Log | None = None
        self._done = self._expected = 0
        known = dict(identity or {})
        if folder is None:
            self.log("started", **known)
            return
        self._parallel.ranks.led(lambda: self._open(folder, known))

    def _open(self, folder: Path, identity: dict[str, Any]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be used: {error.strerror or error}.") from error
        self._log = Log(folder / _LOG, keep=True)
        try:
            self._identify(folder / _RUN, identity)
        except BaseException:
            self.close()
            raise

    def keep(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file of this name into the folder, if there is one."""
        if (folder := self._folder) is not None:
            self._parallel.ranks.led(lambda: (write(folder / name), None)[1])

    def expect(self, steps: int) -> None:
        """Say how many steps all trainings have together, so that progress can be shown."""
        self._expected = steps

    def train(
        self,
        name: str,
        program: Program,
        task: Task,
        options: TrainOptions,
        *,
        seed: int,
        rule: MaskUpdate | None = None,
        span: tuple[int, int | None] = (0, None),
        watch: Watch | None = None,
    ) -> Trained:
        """Do one training, as `sparsify.training.train.train` does, unless it is done already.

        Args:
            name: of the training, unique within the retraining.
            program: what to train.
            task: data and loss.
            options: how to train.
            seed: of everything random.
            rule: updates the masks.
            span: the first step and the one behind the last.
            watch: looks at every step, and may end the training.

        Raises:
            TrainingError: the training diverged; what was kept before stays.
            KeyboardInterrupt: it was interrupted; in a folder it goes on behind the step that was under way.
        """
        store = kept = None
        if self._folder is not None:
            place = self._folder / re.sub(r"[^\w.-]", "-", name)
            store = Checkpoints(place, self._seconds, self.warn, self._parallel)
            kept = Checkpoints(place.with_suffix(".done"), warn=self.warn, parallel=self._parallel)
            if (state := kept.load()) is not None:
                if watch is not None:
                    watch.load_state(state["watch"])
                known = _restored(program, state)
                self._done += len(known.losses)
                return known
        on_step = self._listener(name, span[0])
        try:
            trained = train(
                program, task, options, seed=seed, on_step=on_step, rule=rule, span=span, checkpoints=store,
                watch=watch, parallel=self._parallel,
            )  # fmt: skip
        except TrainingError as error:
            if store is None:
                raise
            last = store.newest
            of_it = f", and checkpoint {last.name} of {name}, from after step {_step(last):,}" if last else ""
            raise TrainingError(f"{error} {self._folder} keeps the log and what was done before{of_it}.") from error
        self._done += len(trained.losses)
        if store is not None and kept is not None:
            kept.save(len(trained.losses), {**_state(trained), "watch": watch.state() if watch else None})
            store.clear()
        self.log("trained", training=name, steps=len(trained.losses))
        return trained

    def log(self, event: str, **values: Any) -> None:
        """Write a line to the log, and tell the listeners."""
        line = {"event": event, "time": round(time.time(), 3), **values}
        if self._log is not None:
            self._log(line)
        for listener in self._listeners:
            listener(line)

    def warn(self, text: str) -> None:
        """Log a warning; listeners show it to the user."""
        self.log("warning", text=text)

    def close(self) -> None:
        """Let others work in the folder."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _identify(self, path: Path, identity: dict[str, Any]) -> None:
        if not path.exists():
            if self._is_used(path.parent):
                raise UsageError(
                    f"{path.parent} holds a retraining whose {path.name} is gone, so that nobody knows which. Name "
                    "another --work, or remove it."
                )
            with writing(path) as temporary:
                temporary.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
            self.log("started", **identity)
            return
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(f"{path} is damaged. Remove {path.parent}, or name another --work.") from None
        other = [key for key in {**known, **identity} if known.get(key) != identity.get(key)]
        if other:
            key = other[0]
            raise UsageError(
                f"{path.parent} holds another retraining: its {key} is {known.get(key)}, and here it is "
                f"{identity.get(key)}. Name another --work, or remove it."
            )
        self.log("resumed")

    def _is_used(self, folder: Path) -> bool:
        """Whether a folder has what a retraining leaves."""
        log = folder / _LOG
        return log.stat().st_size > 0 or any(any(folder.glob(kind)) for kind in ("*.ticket", "*/step-*.ckpt"))

    def _listener(self, name: str, first: int) -> OnStep:
        def listen(event: StepEvent) -> None:
            done = self._done + event.step - first
            of_all = max(self._expected, self._done + event.steps - first)
            self._on_step(replace(event, training=name, steps_done=done, steps_of_all=of_all))
            every = max(1, event.steps // _LINES)
            if event.step % every == 0 or event.step in (1, event.steps):
                self.log("step", training=name, step=event.step, steps=event.steps, loss=event.loss,
                         learning_rate=event.learning_rate, gradient_norm=event.gradient_norm,
                         density=event.density)  # fmt: skip
            if event.exchange is not None:
                self.log("exchanged", training=name, **event.exchange)
            if event.emptied:
                self.warn(
                    f"The updates of the masks have taken all weights of {first_names(event.emptied)} by step "
                    f"{event.step:,}: nothing passes there. A lower sparsity= or protect= keeps layers alive."
                )
            if event.measured is not None:
                self.log("measured", training=name, **event.measured)

        return listen


def _step(checkpoint: Path) -> int:
    return int(checkpoint.stem.rpartition("-")[2])


def _state(trained: Trained) -> dict[str, Any]:
    program = trained.program
    return {
        "parameters": {name: value.detach() for name, value in program.parameters.items()},
        "buffers": dict(program.buffers),
        "losses": torch.tensor(trained.losses, dtype=torch.float64),
        "curve": list(trained.curve), "updates": trained.updates,
        "exchanges": list(trained.exchanges), "itop": trained.itop,
    }  # fmt: skip


def _restored(program: Program, state: Mapping[str, Any]) -> Trained:
    parameters = {
        name: torch.nn.Parameter(state["parameters"][name].to(old.device), requires_grad=old.requires_grad)
        for name, old in program.parameters.items()
    }
    buffers = {name: state["buffers"][name].to(old.device) for name, old in program.buffers.items()}
    known = replace(program, parameters=parameters, buffers=buffers)
    losses, curve, exchanges = tuple(state["losses"].tolist()), tuple(state["curve"]), tuple(state["exchanges"])
    return Trained(known, losses, curve, state["updates"], exchanges, state["itop"])
