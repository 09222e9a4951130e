"""Statistics that criteria score by, one per file: the file's name is the statistic's name.

A statistic is measured on a subject and gives a tensor for each weight, group or block of it. Streamed statistics are
taken together in one run over the calibration data; what they hold does not grow with the number of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsify.blocks import Block
from sparsify.calibration import Calibration, Data
from sparsify.layers import Layer, layers
from sparsify.program import Program
from sparsify.signals import Signal
from sparsify.watching import Watched

__all__ = ["Gradients", "Statistic", "Streamed", "Subject", "stream"]

Gradients = Callable[[Tensor], Tensor]
"""Gives for a tensor the gradient of the batch's mean loss, zeros where the loss does not depend on it."""


@dataclass(frozen=True)
class Subject:
    """What statistics are taken of.

    Attributes:
        program: is run, never changed.
        calibration: the data.
        parameters: names of the parameters whose statistics are wanted.
        signals: groups and blocks whose channels are wanted.
        blocks: blocks that are wanted as a whole.
    """

    program: Program
    calibration: Calibration
    parameters: Sequence[str] = ()
    signals: Sequence[Signal] = ()
    blocks: Sequence[Block] = ()

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers that read one of the parameters."""
        wanted = set(self.parameters)
        return [layer for layer in layers(self.program) if layer.parameter in wanted]

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The names of the parameters, signals and blocks."""
        keys = tuple(signal.key for signal in self.signals)
        return tuple(self.parameters), keys, tuple(block.name for block in self.blocks)

    @property
    def trainable(self) -> dict[str, Tensor]:
        """Those of the parameters that have a gradient."""
        found = self.program.parameters
        return {name: found[name] for name in self.parameters if found[name].requires_grad}

    def only(self, parameters: Sequence[str]) -> Subject:
        """Return the same with fewer parameters."""
        return replace(self, parameters=parameters)


class Statistic:
    """Base of all statistics.

    Attributes:
        data: what it is measured on.
    """

    data: ClassVar[Data] = "inputs"

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Measure it.

        Returns:
            A tensor for each parameter, signal or block of the subject that has this statistic.
        """
        raise NotImplementedError

    def bytes(self, subject: Subject, parameter: str) -> int:
        """Return how much memory it takes for a parameter, so that a large model can be done part by part."""
        return 0


class Streamed(Statistic):
    """A statistic that is gathered batch by batch while the program runs."""

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Prepare a run: say what should be looked at and scaled.

        Returns:
            The tensors whose gradients `batch` will ask for.
        """
        raise NotImplementedError

    def batch(self, batch: Any, gradient: Gradients) -> None:
        """Take note of a batch after the program ran on it."""

    def result(self) -> Mapping[str, Tensor]:
        """Return what was gathered."""
        raise NotImplementedError

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
