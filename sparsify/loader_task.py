"""LoaderTask: a task made of DataLoaders, a loss and a score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.batches import on_device
from sparsify.data.labelled import check_split, device_of
from sparsify.data.seeded import Seeded
from sparsify.errors import UsageError
from sparsify.task import Batch, Score, Split, accuracy, mean_score

__all__ = ["LoaderTask"]

_LABELS = ("labels", "label")  # what Hugging Face calls them
_EXAMPLES = 8


@dataclass(frozen=True, eq=False)
class LoaderTask:
    """Data loaders, a loss and a score, as training code has them, made into a task.

        task = sparsify.LoaderTask(
            train=DataLoader(train_set, 64, shuffle=True),
            validation=DataLoader(validation_set, 64),
            loss=lambda model, batch: cross_entropy(model(batch[0]), batch[1]),
            score_each=lambda model, batch: model(batch[0]).argmax(1) == batch[1],
        )

    Batches are what the loaders give: pairs, dictionaries, anything that `loss` understands. Their tensors come to
    `loss` and `score_each` on the model's device.

    `batches("train", seed=s)` follows the seed: the order of an ordinary DataLoader with shuffle=True, with or without
    a generator of its own, and what its data set draws from the global generators of torch, numpy and Python, in this
    process or in workers. Not reproducible are what a data set draws from a generator of its own, and what workers draw
    that live on (persistent_workers=True); with another number of workers, what they draw differs. A loader that does
    not shuffle gives the same order for every seed.

    Attributes:
        train: a DataLoader or anything else to be gone through every epoch; or a function of the seed that makes it,
            where everything random shall be under control.
        validation: the same for validation; always gone through with the same seed.
        loss: from model and batch to a scalar tensor, the mean loss of the batch.
        score_each: from model and batch to one value for each example, `[N]`, higher is better; the score is their
            mean, with an interval, and booleans make an accuracy.
        score_all: from the model to a number, higher is better, or a Score; for what is not a mean over examples.
            Without either score it is minus the mean loss.
        name: what reports call the task.
        score_name: what reports call the score, if not accuracy or score.
        pixel_range: of images, what black and what white is in them: two numbers, or two lists with one for each
            channel. `sparsify evaluate` corrupts images by it; without it, it takes the extremes of the data.

    Raises:
        UsageError: a loader can be gone through only once or not at all, or there are two scores.
    """

    train: Iterable[Batch] | Callable[[int], Iterable[Batch]]
    validation: Iterable[Batch] | Callable[[int], Iterable[Batch]]
    loss: Callable[[nn.Module, Batch], Tensor]
    score_each: Callable[[nn.Module, Batch], Tensor] | None = None
    score_all: Callable[[nn.Module], float | Score] | None = None
    name: str = "loaders"
    score_name: str | None = None
    pixel_range: tuple[Any, Any] | None = None

    def __post_init__(self) -> None:
        for split in ("train", "validation"):
            loader: Any = getattr(self, split)
            kind = type(loader).__name__
            if isinstance(loader, Iterator):
                raise UsageError(
                    f"{split} is a {kind}, which can be gone through only once. Give a DataLoader or a list."
                )
            if not isinstance(loader, Iterable) and not callable(loader) and not hasattr(loader, "__getitem__"):
                raise UsageError(f"{split} is a {kind}, which gives no batches. Give a DataLoader or a list.")
        if self.score_each is not None and self.score_all is not None:
            raise UsageError("A task has one score: give score_each or score_all.")

    def batches(self, split: Split, *, seed: int = 0) -> Seeded:
        """Go once through a split; see above for what depends on the seed."""
        check_split(self.name, split)
        loader: Any = self.train if split == "train" else self.validation
        used = seed if split == "train" else 0
        return Seeded(loader(used) if callable(loader) and not isinstance(loader, Iterable) else loader, used)

    def labels(self, batch: Batch) -> Tensor:
        """Return the labels of a batch: the second of a pair, or those of a dictionary; some criteria need them.

        Raises:
            UsageError: there are none.
        """
        found = None
        if isinstance(batch, Mapping):
            found = next((batch[key] for key in _LABELS if key in batch), None)
        elif isinstance(batch, (tuple, list)) and len(batch) == 2:
            found = batch[1]
        if not isinstance(found, Tensor):
            raise UsageError(
                f"The batches of the task {self.name} have no labels: they are no pairs and have no 'labels'."
            )
        return found

    def score(self, model: nn.Module) -> Score:
        """Measure a model on the validation split.

        Raises:
            UsageError: the split is empty, or a function returns something else than it should.
        """
        with torch.no_grad():
            if self.score_all is not None:
                found = self.score_all(model)
                if isinstance(found, Score):
                    return found
                return Score(float(found), self.score_name or "score", sum(map(_count, self.batches("validation"))))
            return self._mean_loss(model) if self.score_each is None else self._mean_of_each(model)

    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return the inputs of 8 validation examples: the first of a pair, or a dictionary without the labels.

        None for batches of another kind.
        """
        batch = next(iter(self.batches("validation")), None)
        batch = pytree.tree_map_only(Tensor, lambda leaf: leaf[:_EXAMPLES].clone(), batch)
        if isinstance(batch, (tuple, list)) and len(batch) == 2:
            batch = batch[0]
        if isinstance(batch, Mapping):
            return (), {key: value for key, value in batch.items() if key not in _LABELS and isinstance(value, Tensor)}
        return ((batch,), {}) if isinstance(batch, Tensor) else None

    def _mean_of_each(self, model: nn.Module) -> Score:
        assert self.score_each is not None
        values = [self._each(model, batch) for batch in self._moved(model)]
        if not values:
            raise UsageError(f"The validation split of the task {self.name} gives no batch.")
        found = torch.cat(values)
        if found.dtype == torch.bool and self.score_name is None:
            return accuracy(int(found.sum()), len(found))
        return mean_score(found.double().tolist(), self.score_name or "score")

    def _each(self, model: nn.Module, batch: Batch) -> Tensor:
        assert self.score_each is not None
        values = self.score_each(model, batch)
        if not isinstance(values, Tensor) or values.ndim != 1:
            what = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise UsageError(
                f"score_each must return a tensor with one value for each example, [N]; it returned {what}."
            )
        return values.cpu()

    def _mean_loss(self, model: nn.Module) -> Score:
        """Return minus the mean loss; a smaller batch counts for as many examples as it has."""
        total, n = 0.0, 0
        for batch in self._moved(model):
            total += float(self.loss(model, batch)) * _count(batch)
            n += _count(batch)
        if not n:
            raise UsageError(f"The validation split of the task {self.name} gives no batch.")
        return Score(-total / n, self.score_name or "negative loss", n)

    def _moved(self, model: nn.Module) -> Iterator[Batch]:
        device = device_of(model)
        return (on_device(batch, device) for batch in self.batches("validation"))


def _count(batch: Batch) -> int:
    """Return how many examples a batch has: the first size of its first tensor that has one."""
    sizes = [leaf.shape[0] for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim]
    return sizes[0] if sizes else 1
