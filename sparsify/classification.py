"""Classification: what every task of labelled tensors that fit into memory has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparsify.errors import UsageError
from sparsify.task import Score, Split, accuracy

__all__ = ["Batches", "Classification"]

Labelled = tuple[Tensor, Tensor]  # inputs [N, ...] and labels int64[N]


@dataclass(frozen=True)
class Batches:
    """Labelled tensors in batches; every iteration gives the same ones.

    Attributes:
        inputs: `[N, ...]`.
        labels: int64 `[N]`.
        size: of a batch.
        seed: of the order, or None for the order of the data.
        partial: whether the last, smaller batch is given too.
    """

    inputs: Tensor
    labels: Tensor
    size: int
    seed: int | None = None
    partial: bool = True

    def __len__(self) -> int:
        """Return the number of batches."""
        n = len(self.labels)
        return -(-n // self.size) if self.partial else n // self.size

    def __iter__(self) -> Iterator[Labelled]:
        """Go through the batches."""
        n = len(self.labels)
        order = torch.arange(n)
        if self.seed is not None:
            order = torch.randperm(n, generator=torch.Generator().manual_seed(self.seed))
        for chosen in torch.split(order, self.size)[: len(self)]:
            yield self.inputs[chosen], self.labels[chosen]


class Classification(ABC):
    """A task of labelled tensors: cross-entropy is its loss, accuracy its score.

    A subclass gives `name`, `batch_size` and `data`.
    """

    name: ClassVar[str]
    batch_size: int

    @abstractmethod
    def data(self, split: Split) -> Labelled:
        """Return all inputs and labels of a split; they are shared and must not be changed."""

    def batches(self, split: Split, *, seed: int = 0) -> Batches:
        """Go once through a split; `train` in an order given by `seed`, without a smaller last batch.

        Raises:
            UsageError: the split does not exist, or a batch is larger than the training split.
        """
        if split not in ("train", "validation"):
            raise UsageError(f"The task {self.name} has the splits train and validation, not {split!r}.")
        inputs, labels = self.data(split)
        if split == "validation":
            return Batches(inputs, labels, self.batch_size)
        if not 1 <= self.batch_size <= len(labels):
            raise UsageError(f"{self.name}: batch_size={self.batch_size} is not between 1 and {len(labels)}.")
        # A last batch of a few examples would unsettle the running statistics of batch norms.
        return Batches(inputs, labels, self.batch_size, seed, partial=False)

    def loss(self, model: nn.Module, batch: Labelled) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        inputs, labels = batch
        return nn.functional.cross_entropy(_logits(model(inputs)), labels)

    def labels(self, batch: Labelled) -> Tensor:
        """Return the labels of a batch, int64 `[N]`; some criteria need them."""
        return batch[1]

    def score(self, model: nn.Module) -> Score:
        """Return the accuracy on the validation split."""
        first = next(model.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
        correct = n = 0
        with torch.no_grad():
            for inputs, labels in self.batches("validation"):
                predicted = _logits(model(inputs.to(device))).argmax(1).cpu()
                correct += int((predicted == labels).sum())
                n += len(labels)
        return accuracy(correct, n)

    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the first 8 training inputs."""
        return (self.data("train")[0][:8].clone(),), {}


def _logits(output: Any) -> Tensor:
    """Return the logits `[N, classes]` of a model that returns them alone, first in a tuple, or as `.logits`."""
    if isinstance(output, (tuple, list)):
        output = output[0]
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"A classifier must return logits [batch, classes]; this model returned {shape}.")
    return logits
