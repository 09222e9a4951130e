"""How the loss changes with a gate on a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Gradients, Streamed

__all__ = ["GateGradient"]


class GateGradient(Streamed):
    """∂L/∂α at α = 1 of a gate α that multiplies a channel wherever it is read, mean over the batches; `[size]`."""

    data: ClassVar[Data] = "loss"

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Put a gate on every channel."""
        device = next(iter(subject.program.parameters.values())).device
        self._gates = {s.key: torch.ones(s.size, device=device, requires_grad=True) for s in subject.signals}
        self._total = {key: torch.zeros_like(gate) for key, gate in self._gates.items()}
        self._count = 0
        for signal in subject.signals:
            signal.scale(watched, self._gates[signal.key])
        return list(self._gates.values())

    def batch(self, batch: Any, gradient: Gradients) -> None:
        """Add the gradients of a batch."""
        self._count += 1
        for key, gate in self._gates.items():
            self._total[key] += gradient(gate)

    def result(self) -> Mapping[str, Tensor]:
        """Return the means."""
        return {key: total / max(1, self._count) for key, total in self._total.items()}
