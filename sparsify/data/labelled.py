"""Labelled: what every task of labelled examples has in common, wherever its data is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparsify.data.logits import logits_of
from sparsify.errors import UsageError
from sparsify.task import Score, Split, accuracy

__all__ = ["Labelled", "LabelledBatch", "check_size", "check_split", "device_of"]

LabelledBatch = tuple[Tensor, Tensor]  # inputs [N, ...] and labels int64[N]

_DIMS = "batch, classes"


class Labelled(ABC):
    """A task of inputs with a label each: cross-entropy is its loss, accuracy its score.

    A subclass gives `name`, `batches` and `example`.
    """

    name: ClassVar[str]

    @abstractmethod
    def batches(self, split: Split, *, seed: int = 0) -> Iterable[LabelledBatch]:
        """Go once through a split."""

    @abstractmethod
    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return real inputs to capture a model with."""

    def loss(self, model: nn.Module, batch: LabelledBatch) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        inputs, labels = batch
        return nn.functional.cross_entropy(logits_of(model(inputs), _DIMS), labels)

    def labels(self, batch: LabelledBatch) -> Tensor:
        """Return the labels of a batch, int64 `[N]`; some criteria need them."""
        return batch[1]

    def score(self, model: nn.Module) -> Score:
        """Return the accuracy on the validation split."""
        device = device_of(model)
        correct = n = 0
        with torch.no_grad():
            for inputs, labels in self.batches("validation"):
                predicted = logits_of(model(inputs.to(device)), _DIMS).argmax(1).cpu()
                correct += int((predicted == labels).sum())
                n += len(labels)
        return accuracy(correct, n)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter; the CPU when it has none."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def check_split(name: str, split: str) -> None:
    """Check that a split exists.

    Raises:
        UsageError: it does not.
    """
    if split not in ("train", "validation"):
        raise UsageError(f"The task {name} has the splits train and validation, not {split!r}.")


def check_size(name: str, size: int, split: Split, examples: int) -> None:
    """Check the size of the batches of a split that has so many examples.

    Raises:
        UsageError: it is not positive, or larger than the training split.
    """
    if size < 1 or (split == "train" and size > examples):
        raise UsageError(f"{name}: batch_size={size} is not between 1 and {examples}.")
