"""Digits: 1797 handwritten digits of 8x8 pixels that come with scikit-learn, so nothing is downloaded."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.data.classification import Classification
from sparsify.data.pixels import scaled_range
from sparsify.errors import UsageError
from sparsify.task import Split

__all__ = ["Digits"]

_VALIDATION = 450  # a quarter
_WHITE = 16.0  # the largest value of a pixel


@dataclass(frozen=True)
class Digits(Classification):
    """Classify 8x8 images of digits: 1347 to train, 450 to validate, the same share of every digit in both.

    Images are float32 `[N, 1, 8, 8]`, scaled so that the training split has mean 0 and deviation 1.

    Attributes:
        batch_size: examples in a batch.
        split_seed: of the division into training and validation.

    Reference: Alpaydin and Kaynak, Cascading Classifiers, 1998 (the data's origin).
    """

    name: ClassVar[str] = "digits"
    batch_size: int = 64
    split_seed: int = 0

    def data(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return the images and labels of a split.

        Raises:
            UsageError: scikit-learn is not installed.
        """
        return _load(self.split_seed)[0][split]

    @property
    def pixel_range(self) -> tuple[list[float], list[float]]:
        """What black and white are in the images that a model gets."""
        return _load(self.split_seed)[1]


@functools.cache
def _load(split_seed: int) -> tuple[dict[Split, tuple[Tensor, Tensor]], tuple[list[float], list[float]]]:
    """Return both splits, and their black and white."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise UsageError("The task digits needs scikit-learn: pip install sparsify-fx[data].") from error
    images, labels = load_digits().images, load_digits().target
    train, validation = train_test_split(
        range(len(labels)), test_size=_VALIDATION, stratify=labels, random_state=split_seed
    )
    x = torch.from_numpy(images).float().unsqueeze(1)
    mean, deviation = x[train].mean(), x[train].std()
    x = (x - mean) / deviation
    y = torch.from_numpy(labels).long()
    splits: dict[Split, tuple[Tensor, Tensor]] = {
        "train": (x[train], y[train]),
        "validation": (x[validation], y[validation]),
    }
    return splits, scaled_range(mean, deviation, _WHITE)
