"""Robustness: scores of models on corrupted images and on other data, beside those of the first model.

The task scores a model as always; the model is wrapped in a module that turns its input into pixels, corrupts them, and
turns them back. So every task works whose model gets one tensor of images, whatever its batches and its score are, and
all models get the same corrupted images.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.batches import of_task
from sparsify.errors import UsageError
from sparsify.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from sparsify.evaluation.pixels import PixelRange, image_of
from sparsify.task import Score, Task, accuracy

__all__ = ["Corrupted", "Known", "Robustness", "robustness", "scored", "unfit"]

_BUDGET = 1 << 28  # bytes of corrupted images that are kept for the next model


@dataclass(frozen=True)
class Robustness:
    """Scores of one model on corrupted images.

    Attributes:
        clean: its score on the images as they are.
        scores: by corruption, one for each severity.
    """

    clean: Score
    scores: Mapping[str, Sequence[Score]]

    def mean(self, name: str) -> float:
        """Return the mean score of one corruption over its severities."""
        return statistics.fmean(score.value for score in self.scores[name])

    @property
    def overall(self) -> float:
        """The mean over all corruptions and severities."""
        return statistics.fmean(map(self.mean, self.scores))

    def interval(self, name: str | None = None) -> tuple[float, float] | None:
        """Return a 95% interval of an accuracy's mean over severities, or over all; None for another score.

        It is that of as many answers as there are images. The means are over several looks at the same images, so it is
        rather too wide than too narrow.
        """
        if self.clean.name != "accuracy":
            return None
        value = self.overall if name is None else self.mean(name)
        return accuracy(round(value * self.clean.n), self.clean.n).interval

    def _ends(self, name: str | None = None) -> list[float] | None:
        return None if (found := self.interval(name)) is None else list(found)  # as JSON has it

    def corruption_error(self, other: Robustness) -> float | None:
        """Return mCE against another model: the mean over corruptions of Σ errors / Σ the other's errors.

        None where the score is no accuracy, or the other makes no error.
        """
        return self._against(other, lambda one, name: sum(1 - score.value for score in one.scores[name]))

    def relative_error(self, other: Robustness) -> float | None:
        """Return relative mCE: as mCE, of how much the error rises above that on clean images.

        None, too, where a corruption does not hurt the other model.
        """
        return self._against(other, lambda one, name: sum(one.clean.value - score.value for score in one.scores[name]))

    def _against(self, other: Robustness, errors: Callable[[Robustness, str], float]) -> float | None:
        if self.clean.name != "accuracy" or not self.scores:
            return None
        pairs = [(errors(self, name), errors(other, name)) for name in self.scores]
        if any(theirs <= 0 for _, theirs in pairs):
            return None
        return statistics.fmean(own / theirs for own, theirs in pairs)

    def as_dict(self, first: Robustness) -> dict[str, Any]:
        """Return everything by name, beside the first model's."""
        return {
            "mean": self.overall if self.scores else None,
            "interval": self._ends() if self.scores else None,
            "drop": self.clean.value - self.overall if self.scores else None,
            "mce": self.corruption_error(first),
            "relative_mce": self.relative_error(first),
            "corruptions": {
                name: {"mean": self.mean(name), "interval": self._ends(name), "scores": [s.value for s in scores]}
                for name, scores in self.scores.items()
            },
        }


class Corrupted(nn.Module):
    """A model that gets its images corrupted.

    Images are numbered from 0 on in the order in which they come, so a wrapped model is for one way through the data.

    Args:
        module: the model.
        scale: of its input.
        name: of the corruption.
        severity: from 1 to 5.
        seed: of everything random.
        known: images that were corrupted for another model, by the number of the first; filled and used.
    """

    def __init__(
        self,
        module: nn.Module,
        scale: PixelRange,
        name: str,
        severity: int,
        *,
        seed: int = 0,
        known: Known | None = None,
    ) -> None:
        super().__init__()
        self._module, self._scale = module, scale
        self._name, self._severity, self._seed = name, severity, seed
        self._known = Known() if known is None else known
        self._seen = 0
        self.train(module.training)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Corrupt the images among the arguments, and return what the model computes."""
        images, reason = image_of(args, kwargs)
        if images is None:
            raise UsageError(f"There is nothing to corrupt: {reason}.")
        worse = self._known.get(self._seen, images, self._worse)
        self._seen += len(images)
        args, kwargs = pytree.tree_map_only(Tensor, lambda _: worse, (args, kwargs))
        return self._module(*args, **kwargs)

    def _worse(self, images: Tensor) -> Tensor:
        pixels = self._scale.pixels(images)
        found = corrupt(pixels, self._name, self._severity, seed=self._seed, first=self._seen)
        return self._scale.inputs(found)


class Known:
    """Images that were corrupted for one model, for the next; as many as fit into the memory set aside."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._bytes = 0

    def get(self, first: int, images: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what images become whose first one has this number; the same ones are made once."""
        if first in self._kept and torch.equal(self._kept[first][0], images):
            return self._kept[first][1]
        made = make(images)
        if (needed := 2 * images.numel() * images.element_size()) + self._bytes <= _BUDGET:
            self._kept[first] = images.clone(), made
            self._bytes += needed
        return made


def scored(task: Task, module: nn.Module) -> Score:
    """Return a task's score of a module in evaluation mode.

    Raises:
        UsageError: the task's own code failed, or gives no score.
    """
    with of_task(task, "score the model"), torch.no_grad():
        found = task.score(module)
    if not isinstance(found, Score):
        raise UsageError(f"The task {task.name} must return a sparsify.Score from score, not {type(found).__name__}.")
    return found


def unfit(names: Sequence[str], scale: PixelRange | str) -> dict[str, str]:
    """Return which corruptions cannot be applied to a task's images, and why."""
    if isinstance(scale, str):
        return dict.fromkeys(names, scale)
    found = {name: "the images are grey" for name in names if CORRUPTIONS[name].colour and scale.channels == 1}
    if "jpeg" in names:
        try:
            import PIL  # noqa: F401
        except ImportError:
            found["jpeg"] = "Pillow is not installed: pip install sparsify-fx[data]"
    return found


def robustness(
    modules: Sequence[nn.Module],
    task: Task,
    names: Sequence[str],
    scale: PixelRange,
    *,
    clean: Sequence[Score],
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    stage: Callable[[str], None] = lambda text: None,
) -> list[Robustness]:
    """Score models on corrupted images.

    Args:
        modules: in evaluation mode.
        task: whose validation images are corrupted.
        names: of corruptions that fit them.
        scale: of the images.
        clean: the scores of the models on the images as they are.
        severities: which.
        seed: of everything random.
        stage: told what begins.
    """
    scores: list[dict[str, list[Score]]] = [{name: [] for name in names} for _ in modules]
    for name in names:
        for severity in severities:
            stage(f"corrupting images: {name}, severity {severity}")
            known = Known()
            for found, module in zip(scores, modules, strict=True):
                found[name].append(scored(task, Corrupted(module, scale, name, severity, seed=seed, known=known)))
    return [Robustness(own, found) for own, found in zip(clean, scores, strict=True)]
