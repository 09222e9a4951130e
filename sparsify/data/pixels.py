"""Pixels: tasks of images of one size, which are kept as bytes and become standardised floats batch by batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Generator, Tensor

from sparsify.data.classification import Classification
from sparsify.data.labelled import LabelledBatch
from sparsify.errors import InputError
from sparsify.task import Split

__all__ = ["Pixels", "moments", "scaled_range"]


class Pixels(Classification):
    """A task of images that a file holds as bytes, four times smaller than as floats.

    A subclass gives `name`, `batch_size` and `load`; and `augmented`, where training images are changed at random.
    """

    @abstractmethod
    def load(self) -> Mapping[Split, LabelledBatch]:
        """Read images uint8 `[N, C, H, W]` and labels int64 `[N]` of both splits; called once."""

    def augmented(self, images: Tensor, generator: Generator) -> Tensor:
        """Return training images uint8 `[N, C, H, W]` as an epoch shows them."""
        del generator
        return images

    def data(self, split: Split) -> LabelledBatch:
        """Return the images, uint8 `[N, C, H, W]`, and labels of a split.

        Raises:
            InputError: the files are missing or damaged; the message names the file.
        """
        return self._splits[split]

    def prepare(self, batch: LabelledBatch, generator: Generator | None) -> LabelledBatch:
        """Return a batch with float32 images, standardised by the training split."""
        images, labels = batch
        if generator is not None:
            images = self.augmented(images, generator)
        mean, deviation = self._moments
        return (images.float() - mean) / deviation, labels

    @property
    def pixel_range(self) -> tuple[list[float], list[float]]:
        """What black and white are in the images that a model gets, by channel."""
        return scaled_range(*self._moments, white=255.0)

    @cached_property
    def _splits(self) -> Mapping[Split, LabelledBatch]:
        return self.load()

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        mean, deviation = moments(self.data("train")[0])
        if not bool((deviation > 0).all()):
            raise InputError(f"{self.name}: all training images are of one colour, so they cannot be standardised.")
        return mean, deviation


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation of every channel of images uint8 `[N, C, H, W]`, float32 `[C, 1, 1]`.

    They are computed from how often each of the 256 values occurs: exactly, and without a copy of the images as floats.
    """
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(1)]).double()
    shares = counts / counts.sum(1, keepdim=True)
    mean = shares @ values
    deviation = (shares * (values - mean[:, None]) ** 2).sum(1).sqrt()
    return mean.float()[:, None, None], deviation.float()[:, None, None]


def scaled_range(mean: Tensor, deviation: Tensor, white: float = 1.0) -> tuple[list[float], list[float]]:
    """Return what black (0) and white become when the mean is taken away and the deviation divided out, by channel."""
    low, high = -mean / deviation, (white - mean) / deviation
    return low.flatten().tolist(), high.flatten().tolist()
