"""PenalizedTask: a task whose training loss also counts the absolute values of some parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from sparsify.wrapped_task import WrappedTask

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparsify.task import Batch, Task

__all__ = ["PenalizedTask"]

_COMPILED = "_orig_mod."  # before the names of what torch.compile wraps


class PenalizedTask(WrappedTask):
    """A task with an L1 penalty: in training the loss is the task's + λ Σ |θ|, over the parameters that are named.

    In evaluation mode it is the task's own, so that validation losses are what they are without it.

    Args:
        task: what is penalized; what else it has is found here, too.
        names: of the parameters.
        strength: λ.
    """

    def __init__(self, task: Task, names: Iterable[str], strength: float) -> None:
        super().__init__(task)
        self._names, self._strength = tuple(names), strength

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over a batch, with the penalty where the model is being trained."""
        loss = super().loss(model, batch)
        if not model.training or not self._names or not self._strength:
            return loss
        named = {name.removeprefix(_COMPILED): value for name, value in model.named_parameters(remove_duplicate=False)}
        return loss + self._strength * torch.stack([named[name].abs().sum() for name in self._names]).sum()
