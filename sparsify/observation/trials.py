"""Trials: run a program with channels or blocks closed, and see what that does to its loss and its output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.batches import checked_loss
from sparsify.errors import PassError
from sparsify.observation.signals import GroupSignal
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched

__all__ = ["Closed", "Run", "Trials"]

Closed: TypeAlias = Mapping[str, Tensor | slice]
"""Which channels are closed: their indices, or a mask of them, by the key of the signal."""


@dataclass(frozen=True)
class _Outcome:
    loss: float | None
    outputs: Sequence[Tensor]


@dataclass(frozen=True)
class Run:
    """A batch, on which the program is run as often as is asked for."""

    _try: Callable[[Closed], _Outcome]
    _dense: _Outcome

    @property
    def output(self) -> Tensor:
        """The first floating output of the whole program; if the task runs it several times, that of the first."""
        return self._dense.outputs[0]

    def output_without(self, closed: Closed) -> Tensor:
        """Return the same output with channels closed."""
        return self._try(closed).outputs[0]

    def rise(self, closed: Closed) -> float:
        """Return how much the loss rises; without a task the relative L2 change of all floating outputs together."""
        found = self._try(closed)
        if found.loss is not None and self._dense.loss is not None:
            return found.loss - self._dense.loss
        pairs = [(a.double(), b.double()) for a, b in zip(self._dense.outputs, found.outputs, strict=True)]
        distance = sum(float((a - b).square().sum()) for a, b in pairs)
        return math.sqrt(distance / max(1e-30, sum(float(a.square().sum()) for a, _ in pairs)))


class Trials:
    """The program of a subject with a gate on every signal, all of them open until a trial closes some.

    Args:
        subject: the program, the data, and the signals of groups and blocks.

    Attributes:
        signals: the signals that can be closed.
    """

    def __init__(self, subject: Subject) -> None:
        self.signals = [s for s in subject.signals if not isinstance(s, GroupSignal) or s.places]
        self._subject = subject
        self._blocks = {block.name for block in subject.blocks}
        device = next(iter(subject.program.parameters.values())).device
        self._gates = {signal.key: torch.ones(signal.size, device=device) for signal in self.signals}
        self._outputs: list[Tensor] = []
        watched = Watched(subject.program)
        for signal in self.signals:
            signal.scale(watched, self._gates[signal.key])
        self._model = watched.ready()
        self._model.register_forward_hook(self._see)

    def runs(self) -> Iterator[Run]:
        """Go through the calibration data, batch by batch.

        Raises:
            PassError: there is no batch.
        """
        calibration, program = self._subject.calibration, self._subject.program
        batches = iter([program.example]) if calibration.task is None else calibration.draw(program)
        for batch in batches:

            def trial(closed: Closed, batch: Any = batch) -> _Outcome:
                return self._try(batch, closed)

            yield Run(trial, trial({}))

    def endless(self) -> Iterator[Run]:
        """Go through the data again and again."""
        while True:
            yield from self.runs()

    def each(self, measure: Callable[[Sequence[Closed]], Tensor]) -> dict[str, Tensor]:
        """Measure what happens without each block as a whole, and without each channel of a group alone.

        Args:
            measure: returns a number for everything that is closed in turn.

        Returns:
            A scalar for each block, a vector `[size]` for each group.
        """
        trials: dict[str, list[Closed]] = {
            signal.key: [{signal.key: slice(None)}]
            if signal.key in self._blocks
            else [{signal.key: torch.tensor([index])} for index in range(signal.size)]
            for signal in self.signals
        }
        values = measure([closed for several in trials.values() for closed in several])
        parts = torch.split(values, [len(several) for several in trials.values()])
        return {key: part[0] if key in self._blocks else part for key, part in zip(trials, parts, strict=True)}

    def rises(self, trials: Sequence[Closed]) -> Tensor:
        """Return for each trial how much the loss rises, mean over the batches, float64."""
        total, count = torch.zeros(len(trials), dtype=torch.float64), 0
        for run in self.runs():
            total += torch.tensor([run.rise(closed) for closed in trials], dtype=torch.float64)
            count += 1
        return total / count

    def outputs(self, trials: Sequence[Closed]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield for each batch and each trial its number, the output of the whole program, and that of the trial."""
        for run in self.runs():
            for number, closed in enumerate(trials):
                yield number, run.output, run.output_without(closed)

    @torch.no_grad()
    def _try(self, batch: Any, closed: Closed) -> _Outcome:
        for key, channels in closed.items():
            self._gates[key][channels] = 0
        self._outputs = []
        try:
            task, loss = self._subject.calibration.task, None
            if task is None:
                self._model(*batch.args, **batch.kwargs)
            else:
                loss = float(checked_loss(task, self._model, batch))
        finally:
            for key in closed:
                self._gates[key].fill_(1)
        if not self._outputs:
            raise PassError("The program has no floating output, so that nothing can be compared.")
        return _Outcome(loss, self._outputs)

    def _see(self, model: nn.Module, args: Any, output: Any) -> None:
        self._outputs += [v for v in pytree.tree_leaves(output) if isinstance(v, Tensor) and v.is_floating_point()]
