"""How the loss changes with factors on weights and channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Gradients, Streamed
from sparsify.statistics.gate_gradient import GateGradient
from sparsify.statistics.gradient import Gradient

__all__ = ["Sensitivity"]


class Sensitivity(Streamed):
    """∂L/∂c at c = 1 of a factor c on every weight and on every channel, mean over the batches.

    For a weight it is θ ∂L/∂θ, of the weight's shape; for the channels of a group or block the gradient of a gate,
    `[size]`. A parameter of the root module may be called like its group; the group then comes first.
    """

    data: ClassVar[Data] = "loss"

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Ask for the gradients of the parameters and of gates on the channels."""
        self._parameters = subject.program.parameters
        self._parts: tuple[Streamed, Streamed] = (Gradient(), GateGradient())
        return [tensor for part in self._parts for tensor in part.attach(subject, watched)]

    def batch(self, batch: Any, gradient: Gradients) -> None:
        """Add the gradients of a batch."""
        for part in self._parts:
            part.batch(batch, gradient)

    def result(self) -> Mapping[str, Tensor]:
        """Return the means."""
        gradients, gates = (part.result() for part in self._parts)
        return {**{name: value * self._parameters[name].detach() for name, value in gradients.items()}, **gates}

    def bytes(self, subject: Subject, parameter: str) -> int:
        """Return the size of the gradient."""
        return Gradient().bytes(subject, parameter)
