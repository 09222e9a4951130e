"""A task around another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from sparsify.task import Batch, Score, Split, Task

__all__ = ["WrappedTask"]


class WrappedTask:
    """A task that is another one, but for what a subclass changes.

    Args:
        task: the other one; what it has besides a task's methods is found here, too.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.name = task.name

    def __getattr__(self, name: str) -> Any:
        """Return what the task has besides."""
        if name == "_task":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self._task, name)

    def batches(self, split: Split, *, seed: int = 0) -> Iterable[Batch]:
        """Go once through a split."""
        return self._task.batches(split, seed=seed)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over a batch."""
        return self._task.loss(model, batch)

    def score(self, model: nn.Module) -> Score:
        """Measure a model on the validation split."""
        return self._task.score(model)
