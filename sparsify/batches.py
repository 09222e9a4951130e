"""Batches: what is asked of a task's batches and of their loss, in training and in measuring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.errors import SparsifyError, UsageError
from sparsify.task import Batch, Split, Task
from sparsify.user_code import reason

__all__ = ["checked_loss", "epoch_length", "given_batches", "of_task", "on_device"]


@contextmanager
def of_task(task: Task, what: str) -> Iterator[None]:
    """Say of an error in a task's own code that it is the task's.

    Raises:
        UsageError: the code failed; the message says what and where.
    """
    try:
        yield
    except (SparsifyError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        raise UsageError(f"The task {task.name} cannot {what}: {reason(error)}. --debug shows more.") from error


def given_batches(task: Task, split: Split, seed: int = 0) -> Iterator[Batch]:
    """Yield the batches of a task.

    Raises:
        UsageError: the task's own code failed.
    """
    with of_task(task, f"give its {split} batches"):
        yield from task.batches(split, seed=seed)


def epoch_length(task: Task) -> int:
    """Return the number of training batches in an epoch; counts them when the task does not say.

    Raises:
        UsageError: there are none.
    """
    with of_task(task, "give its train batches"):
        batches: Any = task.batches("train", seed=0)
        try:
            length = len(batches)
        except TypeError:
            length = sum(1 for _ in batches)
    if not length:
        raise UsageError(f"The task {task.name} gives no training batch.")
    return length


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its tensors on a device."""
    return pytree.tree_map(lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf, batch)


def checked_loss(task: Task, module: nn.Module, batch: Batch) -> Tensor:
    """Return the task's loss of a batch.

    Raises:
        UsageError: the task's own code failed, or its loss is not a scalar tensor or has no gradient where gradients
            are recorded.
    """
    with of_task(task, "compute the loss"):
        loss = task.loss(module, batch)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or (torch.is_grad_enabled() and not loss.requires_grad):
        raise UsageError(f"The loss of the task {task.name} is not a scalar tensor with a gradient.")
    return loss
