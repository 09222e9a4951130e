"""LimitedTask: a task of which only the first validation examples are looked at."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from sparsify.adapted_task import AdaptedTask
from sparsify.errors import UsageError
from sparsify.wrapped_task import WrappedTask

if TYPE_CHECKING:
    from torch import nn

    from sparsify.task import Batch, Score, Split, Task

__all__ = ["LimitedTask", "examples_of"]


def examples_of(batch: Batch) -> int:
    """Return how many examples a batch has: the first dimension of its first tensor; 1 where there is none."""
    found = next((leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, torch.Tensor) and leaf.ndim), None)
    return 1 if found is None else len(found)


class LimitedTask(WrappedTask):
    """A task whose validation split ends with the batch in which a number of examples is reached.

    The task itself stays as it is: its score is computed by a copy with other `batches`. A score that does not go
    through `batches` would see everything, which is refused.

    Args:
        task: any task.
        examples: how many at least, if there are so many.
    """

    def __init__(self, task: Task, examples: int) -> None:
        super().__init__(copy.copy(task))
        self._examples, self._asked = examples, False
        inner: Any = self._task
        if isinstance(inner, AdaptedTask):
            inner._task = copy.copy(inner._task)
            inner = inner._task
        whole = inner.batches

        def few(split: Split, *args: Any, **kwargs: Any) -> Iterable[Batch]:
            found = whole(split, *args, **kwargs)
            if split != "validation":
                return found  # type: ignore[no-any-return]
            self._asked = True
            return _Few(found, examples)

        object.__setattr__(inner, "batches", few)  # tasks may be frozen dataclasses

    def score(self, model: nn.Module) -> Score:
        """Measure a model on the first examples of the validation split.

        Raises:
            UsageError: the task does not ask its `batches` for them.
        """
        self._asked = False
        found = self._task.score(model)
        if not self._asked:
            raise UsageError(
                f"The score of the task {self.name} does not go through its batches(), so --examples {self._examples} "
                "cannot limit it. Leave --examples out, or let score() use self.batches('validation')."
            )
        return found


class _Few:
    def __init__(self, batches: Iterable[Batch], examples: int) -> None:
        self._batches, self._examples = batches, examples

    def __getattr__(self, name: str) -> Any:  # what draws the order is asked of a loader by name
        if name in ("_batches", "__len__"):
            raise AttributeError(name)
        return getattr(self._batches, name)

    def __iter__(self) -> Iterator[Batch]:
        seen = 0
        for batch in self._batches:
            yield batch
            seen += examples_of(batch)
            if seen >= self._examples:
                return
