"""How gates on the channels of a group change the loss together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Gradients
from sparsify.statistics.gate_gradient import GateGradient

__all__ = ["GateSecondMoment"]


class GateSecondMoment(GateGradient):
    """z zᵀ with z = ∂L/∂α at α = 1 of gates α on the channels, mean over the batches; `[size, size]`.

    A gradient is that of a batch's mean loss. It takes size² numbers for each group.
    """

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Put a gate on every channel."""
        gates = super().attach(subject, watched)
        self._total = {key: torch.zeros(2 * gate.shape, device=gate.device) for key, gate in self._gates.items()}
        return gates

    def batch(self, batch: Any, gradient: Gradients) -> None:
        """Add the products of the gradients of a batch."""
        self._count += 1
        for key, gate in self._gates.items():
            found = gradient(gate)
            self._total[key].addr_(found, found)
