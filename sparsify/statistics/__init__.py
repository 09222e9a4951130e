"""Statistics that criteria score by, one per file: the file's name is the statistic's name.

A statistic is measured on a subject and gives a tensor for each weight, group or block of it. Streamed statistics are
taken together in one run over the calibration data; what they hold does not grow with the number of batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched

__all__ = ["Gradients", "Statistic", "Streamed", "stream"]

Gradients = Callable[[Tensor], Tensor]
"""Gives for a tensor the gradient of the batch's mean loss, zeros where the loss does not depend on it."""


class Statistic(ABC):
    """Base of all statistics.

    Attributes:
        data: what it is measured on.
    """

    data: ClassVar[Data] = "inputs"

    @abstractmethod
    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Measure it.

        Returns:
            A tensor for each parameter, signal or block of the subject that has this statistic.
        """

    def bytes(self, subject: Subject, parameter: str) -> int:
        """Return how much memory it takes for a parameter, so that a large model can be done part by part."""
        return 0


class Streamed(Statistic):
    """A statistic that is gathered batch by batch while the program runs."""

    @abstractmethod
    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Prepare a run: say what should be looked at and scaled.

        Returns:
            The tensors whose gradients `batch` will ask for.
        """

    def batch(self, batch: Any, gradient: Gradients) -> None:
        """Take note of a batch after the program ran on it."""

    @abstractmethod
    def result(self) -> Mapping[str, Tensor]:
        """Return what was gathered."""

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Measure it in a run of its own."""
        return stream([self], subject)[0]


def stream(statistics: Sequence[Streamed], subject: Subject) -> list[Mapping[str, Tensor]]:
    """Measure statistics together in one run over the calibration data; return their results in order."""
    watched = Watched(subject.program)
    wanted: dict[int, Tensor] = {}
    for statistic in statistics:
        wanted.update((id(value), value) for value in statistic.attach(subject, watched))
    tensors = list(wanted.values())
    with torch.set_grad_enabled(bool(tensors)):
        for batch, loss in subject.calibration.run(watched.ready(), subject.program):
            found: dict[int, Tensor | None] = {}
            if tensors:
                assert loss is not None
                found = dict(zip(wanted, torch.autograd.grad(loss, tensors, allow_unused=True), strict=True))
            with torch.no_grad():
                for statistic in statistics:
                    statistic.batch(batch, _gradients(found))
    return [statistic.result() for statistic in statistics]


def _gradients(found: Mapping[int, Tensor | None]) -> Gradients:
    def gradient(of: Tensor) -> Tensor:
        value = found[id(of)]
        return torch.zeros_like(of) if value is None else value

    return gradient
