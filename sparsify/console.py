"""The console: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import TaskID

    from sparsify.training.watch import StepEvent

__all__ = ["Show", "err", "out", "print_json", "progress", "rank"]


def rank() -> int | None:
    """Return which of several processes this is that torchrun has started, or None where it is alone."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None


out = Console(quiet=bool(rank()))  # of several processes, the first one tells
err = Console(stderr=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, and nothing else."""
    if rank():
        return
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


class Show:
    """What is being done, and how far it is: a moving line, and below it a bar while something is trained."""

    def __init__(self) -> None:
        from rich.progress import (  # --help needs none of it
            BarColumn,
            Progress,
            TaskProgressColumn,
            TimeRemainingColumn,
        )
        from rich.spinner import Spinner

        self._spinner = Spinner("dots", Text("starting"))
        self._bar = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            expand=True,
        )
        self._task: TaskID | None = None

    def __call__(self, text: str) -> None:
        """Say what is being done."""
        self._spinner.update(text=Text(text))

    def step(self, event: StepEvent) -> None:
        """Say how far a training is; the bar is of all trainings of the retraining."""
        words = [event.training.replace("-", " "), f"step {event.step} of {event.steps}", f"loss {event.loss:.3f}"]
        words += [f"score {event.score:.4f}"] if event.score is not None else []
        words += [f"{1 - event.density:.1%} sparse"] if event.density < 1 else []
        self.count(" · ".join(filter(None, words)), event.steps_done, event.steps_of_all)

    def count(self, text: str, done: int, total: int) -> None:
        """Say what is being done, and how much of it."""
        self(text)
        if self._task is None:  # what was done in another process has taken no time in this one
            self._task = self._bar.add_task("", total=total, completed=max(0, done - 1))
        self._bar.update(self._task, completed=done)
        if done >= total:
            self._bar.remove_task(self._task)
            self._task = None

    def __rich__(self) -> Group:
        """Return what is drawn."""
        return Group(self._spinner, *([self._bar] if self._task is not None else []))


@contextmanager
def progress() -> Iterator[Show]:
    """Show on stderr what is being done, in a terminal; nothing elsewhere."""
    from rich.live import Live

    show = Show()
    if not err.is_terminal or rank():
        yield show
        return
    with Live(show, console=err, transient=True, refresh_per_second=8):
        yield show
