"""Watch: what looks at a training after every step, what it sees, and that it may end it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from torch import nn

from sparsify.training.sparse_training import Exchange

__all__ = ["OnStep", "StepEvent", "Watch"]


@dataclass(frozen=True)
class StepEvent:
    """What a listener learns after a step.

    Attributes:
        step: how many steps are done, from 1 to `steps`.
        steps: in the whole run.
        loss: of the step's batch, before the update.
        learning_rate: of the update.
        gradient_norm: of all parameters together but for pruned weights, before clipping.
        module: the live module, to be looked at, not changed; `program.with_state(module)` takes a copy of it.
        density: which share of the weights that have masks is kept.
        score: the last that was measured on the way, if `score_every` is given.
        measured: what was measured behind this step.
        exchange: what was done to the masks at this step.
        emptied: the weights of which this step's update of the masks left nothing.
        training: its name, where a retraining has several.
        steps_done: in all trainings of the retraining, those of earlier calls included.
        steps_of_all: how many there will be.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    module: nn.Module
    density: float = 1.0
    score: float | None = None
    measured: Mapping[str, Any] | None = None
    exchange: Exchange | None = None
    emptied: tuple[str, ...] = ()
    training: str = ""
    steps_done: int = 0
    steps_of_all: int = 0


OnStep: TypeAlias = Callable[[StepEvent], None]


class Watch(Protocol):
    """Looks at a training after every step, and may end it before its last one.

    Unless it says so, it changes nothing in the training: up to the step at which it ends, this is the training that it
    would be without. What it writes in place must be state of the module, which checkpoints keep.
    What it remembers is kept in checkpoints, so that a training that was stopped goes on as if it had not been.
    """

    @property
    def ended(self) -> bool:
        """Whether the training is to end."""

    def look(self, event: StepEvent) -> None:
        """See the module behind a step."""

    def state(self) -> dict[str, Any]:
        """Return what it remembers: tensors, numbers, texts, and lists and dicts of them."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Remember what a checkpoint has kept."""
