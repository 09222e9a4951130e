"""AdaptedTask: a task that says less of itself than the rest of sparsify asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sparsify.data.seeded import Seeded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparsify.task import Batch, Score, Split

__all__ = ["AdaptedTask"]


class AdaptedTask:
    """A task with the name of its class, or with batches that take no seed.

    Without a seed the order of the data is the task's own, the same in every epoch, except for what it draws from the
    global generators of torch, numpy and Python while it is gone through, as a DataLoader with shuffle=True does:
    that follows the seed.

    Args:
        task: has `batches`, `loss` and `score`; what else it has is found here, too.
        seeded: its batches take a seed.
    """

    def __init__(self, task: Any, *, seeded: bool) -> None:
        self._task, self._seeded = task, seeded
        self.name = str(getattr(task, "name", type(task).__name__))

    def __getattr__(self, name: str) -> Any:
        """Return what the task has besides."""
        if name == "_task":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self._task, name)

    def batches(self, split: Split, *, seed: int = 0) -> Iterable[Batch]:
        """Go once through a split."""
        if self._seeded:
            found: Iterable[Batch] = self._task.batches(split, seed=seed)
            return found
        return Seeded(self._task.batches(split), seed if split == "train" else 0)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over a batch."""
        found: Tensor = self._task.loss(model, batch)
        return found

    def score(self, model: nn.Module) -> Score:
        """Measure a model on the validation split."""
        found: Score = self._task.score(model)
        return found
