"""A task of your own: data, loss and score in a few lines.

    sparsify model.pt --task examples/own_task.py:make --pass layer-prune:count=2,criterion=snip \
        --retrain fine-tune:steps=5ep -o small.onnx

The same file serves from Python: `sparsify.run(program, [...], task="examples/own_task.py:make")`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from sparsify.task import Score, Split, accuracy


class MyDigits:
    """Tell the ten digits apart, with data, loss and score written out."""

    name = "my digits"

    def __init__(self) -> None:
        images, labels = load_digits(return_X_y=True)
        self.images = (torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) - 4.9) / 6.0
        self.labels = torch.tensor(labels)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        self.indices = {"train": order[450:], "validation": order[:450]}

    def batches(self, split: Split, *, seed: int = 0) -> Iterable[tuple[Tensor, Tensor]]:
        """Go once through a split; another seed gives another order of the training images."""
        indices = self.indices[split]
        if split == "train":
            indices = indices[torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))]
        return [(self.images[part], self.labels[part]) for part in indices.split(64)]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean cross-entropy."""
        images, labels = batch
        return nn.functional.cross_entropy(model(images), labels)

    def score(self, model: nn.Module) -> Score:
        """Return the accuracy with its interval."""
        with torch.no_grad():
            found = [(model(x).argmax(1) == y).sum().item() for x, y in self.batches("validation")]
        return accuracy(int(sum(found)), len(self.indices["validation"]))

    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return real inputs to capture a model with."""
        return (self.images[:8],), {}


make = MyDigits
