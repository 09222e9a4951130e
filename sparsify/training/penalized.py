"""PenalizedTask: a task whose training loss also counts the absolute values of some parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparsify.task import Batch, Score, Split, Task

__all__ = ["PenalizedTask"]

_COMPILED = "_orig_mod."  # before the names of what torch.compile wraps


class PenalizedTask:
    """A task with an L1 penalty: in training the loss is the task's + λ Σ |θ|, over the parameters that are named.

    In evaluation mode it is the task's own, so that validation losses are what they are without it.

    Args:
        task: what is penalized; what else it has is found here, too.
        names: of the parameters.
        strength: λ.
    """

    def __init__(self, task: Task, names: Iterable[str], strength: float) -> None:
        self._task, self._names, self._strength = task, tuple(names), strength
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
        """Return the mean loss over a batch, with the penalty where the model is being trained."""
        loss = self._task.loss(model, batch)
        if not model.training or not self._names or not self._strength:
            return loss
        named = {name.removeprefix(_COMPILED): value for name, value in model.named_parameters(remove_duplicate=False)}
        return loss + self._strength * torch.stack([named[name].abs().sum() for name in self._names]).sum()

    def score(self, model: nn.Module) -> Score:
        """Measure a model on the validation split."""
        return self._task.score(model)
