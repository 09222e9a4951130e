"""Classification: what every task of labelled tensors that fit into memory has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from sparsify.data.labelled import Labelled, LabelledBatch, check_size, check_split
from sparsify.task import Split

__all__ = ["Batches", "Classification", "Prepare"]

Prepare = Callable[[LabelledBatch, Generator | None], LabelledBatch]


@dataclass(frozen=True)
class Batches:
    """Labelled tensors in batches; every iteration gives the same ones.

    Attributes:
        inputs: `[N, ...]`.
        labels: int64 `[N]`.
        size: of a batch.
        seed: of the order, or None for the order of the data.
        partial: whether the last, smaller batch is given too.
        prepare: turns what is stored into what is given; it gets the generator that drew the order, if any.
    """

    inputs: Tensor
    labels: Tensor
    size: int
    seed: int | None = None
    partial: bool = True
    prepare: Prepare | None = None

    def __len__(self) -> int:
        """Return the number of batches."""
        n = len(self.labels)
        return -(-n // self.size) if self.partial else n // self.size

    def __iter__(self) -> Iterator[LabelledBatch]:
        """Go through the batches."""
        n = len(self.labels)
        order, generator = torch.arange(n), None
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed)
            order = torch.randperm(n, generator=generator)
        for chosen in torch.split(order, self.size)[: len(self)]:
            batch = self.inputs[chosen], self.labels[chosen]
            yield batch if self.prepare is None else self.prepare(batch, generator)


class Classification(Labelled):
    """A task of labelled tensors: cross-entropy is its loss, accuracy its score.

    A subclass gives `name`, `batch_size` and `data`; and `prepare`, where a model does not get what is stored.
    """

    batch_size: int

    @abstractmethod
    def data(self, split: Split) -> LabelledBatch:
        """Return all inputs and labels of a split as they are stored; they are shared and must not be changed."""

    def prepare(self, batch: LabelledBatch, generator: Generator | None) -> LabelledBatch:
        """Return a batch as the model gets it.

        Args:
            batch: as it is stored; it may be changed.
            generator: of all that is random in training; without one nothing is.
        """
        del generator
        return batch

    def batches(self, split: Split, *, seed: int = 0) -> Batches:
        """Go once through a split; `train` in an order given by `seed`, without a smaller last batch.

        Raises:
            UsageError: the split does not exist, or a batch is larger than the training split.
        """
        check_split(self.name, split)
        inputs, labels = self.data(split)
        check_size(self.name, self.batch_size, split, len(labels))
        if split == "validation":
            return Batches(inputs, labels, self.batch_size, prepare=self.prepare)
        # A last batch of a few examples would unsettle the running statistics of batch norms.
        return Batches(inputs, labels, self.batch_size, seed, partial=False, prepare=self.prepare)

    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the first 8 training inputs."""
        inputs, labels = self.data("train")
        return (self.prepare((inputs[:8].clone(), labels[:8]), None)[0],), {}
