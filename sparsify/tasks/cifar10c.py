"""CIFAR-10-C: the test images of CIFAR-10 with the corruptions of Hendrycks and Dietterich, to validate on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsify.data.corrupted_files import CorruptedFile, find, labels_of, read
from sparsify.data.labelled import Labelled, LabelledBatch, check_size, check_split
from sparsify.data.pixels import scaled_range
from sparsify.errors import UsageError
from sparsify.task import Split

__all__ = ["Cifar10c"]

# Of the training images of CIFAR-10, by which the task cifar10 standardises, too.
_MEAN = torch.tensor([125.3069, 122.9501, 113.8660])[:, None, None]
_DEVIATION = torch.tensor([62.9932, 62.0887, 66.7048])[:, None, None]


@dataclass(frozen=True)
class Cifar10c(Labelled):
    """Classify the corrupted test images of CIFAR-10-C; there is nothing to train on.

    Batches hold float32 images `[N, 3, 32, 32]`, scaled by the mean and deviation of CIFAR-10's training images as the
    task cifar10 scales them, and int64 labels `[N]`. Files are read batch by batch.

    Attributes:
        folder: has labels.npy and a file for each corruption, such as gaussian_noise.npy.
        corruption: the name of a file without .npy, or all.
        severity: from 1 to 5; 0 takes all five.
        batch_size: images in a batch.

    Raises:
        InputError: a file is missing, damaged or of another kind; the message names it.
        UsageError: an option is out of its range, or training images are asked for.

    Reference: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
    2019.
    """

    name: ClassVar[str] = "cifar10c"
    folder: str
    corruption: str = "all"
    severity: int = 0
    batch_size: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.severity <= 5:
            raise UsageError(f"cifar10c: severity={self.severity} is not between 1 and 5, or 0 for all five.")
        if self.batch_size < 1:
            check_size(self.name, self.batch_size, "validation", 1)

    @property
    def pixel_range(self) -> tuple[list[float], list[float]]:
        """What black and white are in the images that a model gets, by channel."""
        return scaled_range(_MEAN, _DEVIATION, 255.0)

    def batches(self, split: Split, *, seed: int = 0) -> _Batches:
        """Go once through the images; there is only `validation`.

        Raises:
            UsageError: the split is another one.
        """
        del seed
        check_split(self.name, split)
        if split == "train":
            raise UsageError("The task cifar10c has no training images: train with cifar10, and validate with this.")
        return _Batches(self._files, self.batch_size)

    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the first 8 images."""
        images, _ = next(iter(_Batches(self._files[:1], 8)))
        return (images,), {}

    @cached_property
    def _files(self) -> list[CorruptedFile]:
        folder = Path(self.folder).expanduser()
        labels = labels_of(folder)
        return [read(path, labels, self.severity) for path in find(folder, self.corruption)]


@dataclass(frozen=True)
class _Batches:
    files: list[CorruptedFile]
    size: int

    def __len__(self) -> int:
        return sum(-(-len(labels) // self.size) for _, labels in self.files)

    def __iter__(self) -> Iterator[LabelledBatch]:
        for images, labels in self.files:
            for start in range(0, len(labels), self.size):
                part = slice(start, start + self.size)
                yield _scaled(torch.from_numpy(images[part].copy())), labels[part]


def _scaled(images: Tensor) -> Tensor:
    return (images.permute(0, 3, 1, 2).float() - _MEAN) / _DEVIATION
