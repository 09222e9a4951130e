"""How the loss has lately changed with a gate on a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsify.statistics import Gradients
from sparsify.statistics.gate_gradient import GateGradient

__all__ = ["GateAverage"]

_KEPT = 0.8  # of the average at every batch, as in the paper


class GateAverage(GateGradient):
    """∂L/∂α at α = 1 of a gate α on a channel, an exponential average over the batches; `[size]`.

    It starts at zero; every batch makes it 0.8 · old + 0.2 · new.

    Reference: Mozer and Smolensky, "Skeletonization: A Technique for Trimming the Fat from a Network via Relevance
    Assessment", 1988.
    """

    def batch(self, batch: Any, gradient: Gradients) -> None:
        """Move the averages towards the gradients of a batch."""
        for key, gate in self._gates.items():
            self._total[key].lerp_(gradient(gate), 1 - _KEPT)

    def result(self) -> Mapping[str, Tensor]:
        """Return the averages."""
        return self._total
