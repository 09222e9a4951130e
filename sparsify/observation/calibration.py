"""Calibration: the data that statistics are taken on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from sparsify.batches import checked_loss, on_device
from sparsify.errors import PassError
from sparsify.program import Program
from sparsify.task import Task

__all__ = ["Calibration", "Data"]

Data: TypeAlias = Literal["nothing", "inputs", "loss", "labels"]


@dataclass(frozen=True)
class Calibration:
    """The data that statistics are taken on.

    Attributes:
        task: gives batches and a loss; without it only the program's example is there, and no loss.
        batches: how many training batches are used.
        seed: of their order.
        known: statistics that were measured on this data, of one program at a time, so that none is measured twice.
    """

    task: Task | None
    batches: int = 8
    seed: int = 0
    known: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def check(self, program: Program, data: str, criterion: str) -> None:
        """Check that what a criterion needs can be had.

        Raises:
            PassError: it cannot; the message says what is lacking and how to give it.
        """
        if data == "labels" and not hasattr(self.task, "labels"):
            raise PassError(
                f"The criterion {criterion} needs labels: give a task with labels(batch) -> int64[N], as digits."
            )
        if self.task is not None or data == "nothing":
            return
        if data == "loss":
            raise PassError(
                f"The criterion {criterion} needs a loss: give a task (--task digits, --task my_task.py:make)."
            )
        if program.example.synthetic:
            raise PassError(
                f"The criterion {criterion} needs data, and the example inputs are random. Give a task (--task ...), "
                "real inputs (--inputs FILE.npz or FILE.safetensors), or a .pt2 file exported with real inputs."
            )

    def draw(self, program: Program) -> Iterator[Any]:
        """Yield the batches of the task on the program's device.

        Raises:
            PassError: there is none.
        """
        assert self.task is not None
        device = next(iter(program.parameters.values())).device
        batches = islice(self.task.batches("train", seed=self.seed), self.batches)
        first = next(batches, None)
        if first is None:
            raise PassError(f"The task {self.task.name} gives no batch to measure on.")
        for drawn in chain([first], batches):
            yield on_device(drawn, device)

    def run(self, model: nn.Module, program: Program) -> Iterator[tuple[Any, Tensor | None]]:
        """Run a model on the calibration data; yield each batch with its loss, or the example with None."""
        if self.task is None:
            model(*program.example.args, **program.example.kwargs)
            yield program.example, None
            return
        for batch in self.draw(program):
            yield batch, checked_loss(self.task, model, batch)
