"""What of a task is an image, and which of the numbers that a model gets mean black and white.

A task says the latter with an attribute `pixel_range`, a pair (black, white) of numbers or of one number for each
channel, as the model gets them: (0, 1), or (-mean / deviation, (1 - mean) / deviation). The built-in tasks of images
have it. Of other tasks the least and the largest value of each channel in the validation data is taken, which is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.batches import given_batches, of_task, on_device
from sparsify.data.labelled import device_of
from sparsify.errors import UsageError
from sparsify.task import Task

__all__ = ["PixelRange", "image_of", "pixel_range"]


@dataclass(frozen=True)
class PixelRange:
    """How a model's input and the pixels of images belong together.

    Attributes:
        black: the input that means 0, `[C, 1, 1]`.
        white: the input that means 1.
        size: height and width of the first images.
        derived: they are the extremes of the data, for the task does not say them.
    """

    black: Tensor
    white: Tensor
    size: tuple[int, int]
    derived: bool

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.black)

    def pixels(self, images: Tensor) -> Tensor:
        """Return images as numbers of [0, 1]."""
        black, white = self.black.to(images), self.white.to(images)
        return ((images - black) / (white - black)).clamp(0, 1)

    def inputs(self, pixels: Tensor) -> Tensor:
        """Return pixels as the model gets them."""
        black, white = self.black.to(pixels), self.white.to(pixels)
        return black + pixels * (white - black)


def image_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor | None, str]:
    """Return the one image input of a model's arguments, floats `[N, 1 or 3, H, W]`; or None, and why there is none."""
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if len(tensors) != 1:
        return None, f"the model gets {len(tensors)} tensors, not one of images"
    found = tensors[0]
    if found.ndim != 4 or not found.is_floating_point():
        return (
            None,
            f"the model gets {str(found.dtype).removeprefix('torch.')} {list(found.shape)}, which are no images",
        )
    if found.shape[1] not in (1, 3):
        return None, f"the images have {found.shape[1]} channels, neither 1 nor 3"
    return found, ""


def pixel_range(task: Task, module: nn.Module) -> PixelRange | str:
    """Return how a task's images are scaled; or a text that says why they are none.

    Args:
        task: whose validation batches are shown to the model, the first one only if the task has a `pixel_range`.
        module: a model for it.

    Raises:
        UsageError: the task's own code failed, or its `pixel_range` does not fit its images.
    """
    given = getattr(task, "pixel_range", None)
    watched = _Watched(module)
    device = device_of(module)
    with torch.no_grad():
        for batch in given_batches(task, "validation"):
            with of_task(task, "compute the loss"):
                task.loss(watched, on_device(batch, device))
            if watched.reason or given is not None:
                break
    if watched.reason or watched.low is None or watched.high is None:
        return watched.reason or "the task gives the model nothing"
    if given is not None:
        black, white = (_channels(end, len(watched.low), task) for end in given)
    else:
        black, white = watched.low, watched.high
    if not bool((white > black).all()):
        raise UsageError(
            f"The images of the task {task.name} have the pixel_range {black.flatten().tolist()} to "
            f"{white.flatten().tolist()}: white must be more than black, in every channel."
        )
    return PixelRange(black, white, watched.size, given is None)


class _Watched(nn.Module):
    """A model, and the extremes of the images that it got."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        self.low: Tensor | None = None
        self.high: Tensor | None = None
        self.size = (0, 0)
        self.reason = ""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        images, self.reason = image_of(args, kwargs)
        if images is not None:
            low, high = (end(images.cpu().float(), dim=(0, 2, 3))[:, None, None] for end in (torch.amin, torch.amax))
            self.low = low if self.low is None else torch.minimum(self.low, low)
            self.high = high if self.high is None else torch.maximum(self.high, high)
            self.size = images.shape[-2], images.shape[-1]
        return self._module(*args, **kwargs)


def _channels(end: Any, channels: int, task: Task) -> Tensor:
    values = torch.as_tensor(end if isinstance(end, Tensor) else list(end) if isinstance(end, Iterable) else [end])
    values = values.float().flatten()
    if len(values) not in (1, channels):
        raise UsageError(
            f"The pixel_range of the task {task.name} has {len(values)} values and its images {channels} channels. It "
            "is a pair (black, white), of numbers or of one for each channel."
        )
    return values.expand(channels)[:, None, None].clone()
