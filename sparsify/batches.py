"""Batches: what is asked of a task's batches and of their loss, in training and in measuring."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.errors import UsageError
from sparsify.task import Batch, Task

__all__ = ["checked_loss", "epoch_length", "on_device"]


def epoch_length(task: Task) -> int:
    """Return the number of training batches in an epoch; counts them when the task does not say."""
    batches: Any = task.batches("train", seed=0)
    try:
        return len(batches)
    except TypeError:
        return sum(1 for _ in batches)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its tensors on a device."""
    return pytree.tree_map(lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf, batch)


def checked_loss(task: Task, module: nn.Module, batch: Batch) -> Tensor:
    """Return the task's loss of a batch.

    Raises:
        UsageError: it is not a scalar tensor, or has no gradient where gradients are recorded.
    """
    loss = task.loss(module, batch)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or (torch.is_grad_enabled() and not loss.requires_grad):
        raise UsageError(f"The loss of the task {task.name} is not a scalar tensor with a gradient.")
    return loss
