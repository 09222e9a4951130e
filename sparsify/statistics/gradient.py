"""Mean gradient of the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Gradients, Streamed

__all__ = ["Gradient"]


class Gradient(Streamed):
    """Gradient of the loss with respect to each parameter, mean over the calibration batches; the weight's shape."""

    data: ClassVar[Data] = "loss"

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Ask for the gradients of the parameters."""
        self._parameters = subject.trainable
        self._total = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        self._count = 0
        return list(self._parameters.values())

    def batch(self, batch: Any, gradient: Gradients) -> None:
        """Add the gradients of a batch."""
        self._count += 1
        for name, value in self._parameters.items():
            self._total[name] += gradient(value)

    def result(self) -> Mapping[str, Tensor]:
        """Return the means."""
        return {name: total.div_(max(1, self._count)) for name, total in self._total.items()}

    def bytes(self, subject: Subject, parameter: str) -> int:
        """Return the size of the gradient."""
        return 2 * subject.program.parameters[parameter].nbytes
