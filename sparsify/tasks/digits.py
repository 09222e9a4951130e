"""Digits: 1797 handwritten digits of 8x8 pixels that come with scikit-learn, so nothing is downloaded."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.data.classification import Classification
from sparsify.errors import UsageError
from sparsify.task import Split

__all__ = ["Digits"]

_VALIDATION = 450  # a quarter


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
        return _load(self.split_seed)[split]


@functools.cache
def _load(split_seed: int) -> dict[Split, tuple[Tensor, Tensor]]:
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
    x = (x - x[train].mean()) / x[train].std()
    y = torch.from_numpy(labels).long()
    return {"train": (x[train], y[train]), "validation": (x[validation], y[validation])}
