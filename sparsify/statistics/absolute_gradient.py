"""Gradient of the synaptic flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from sparsify.observation.absolute import absolute_gradients
from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.statistics import Statistic

__all__ = ["AbsoluteGradient"]


class AbsoluteGradient(Statistic):
    """∂R/∂|θ| of the synaptic flow R through the absolute values of all weights, in float64; the weight's shape.

    It needs no data: inputs are ones. `sparsify.observation.absolute` says what R is for any operator.
    """

    data: ClassVar[Data] = "nothing"

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Measure it."""
        parameters = subject.program.parameters
        return absolute_gradients(subject.program, [n for n in subject.parameters if parameters[n].is_floating_point()])
