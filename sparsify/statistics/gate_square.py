"""How much the loss changes with a gate on a channel, squared."""

from __future__ import annotations

from typing import Any

from sparsify.statistics import Gradients
from sparsify.statistics.gate_gradient import GateGradient

__all__ = ["GateSquare"]


class GateSquare(GateGradient):
    """(∂L/∂α)² at α = 1 of a gate α on a channel for the loss of a batch, mean over the batches; `[size]`."""

    def batch(self, batch: Any, gradient: Gradients) -> None:
        """Add the squared gradients of a batch."""
        self._count += 1
        for key, gate in self._gates.items():
            self._total[key] += gradient(gate).square()
