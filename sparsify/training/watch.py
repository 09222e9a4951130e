"""Watch: what looks at a training after every step, and may end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sparsify.training.train import StepEvent

__all__ = ["Watch"]


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
