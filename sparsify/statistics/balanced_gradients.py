"""Gradient and Hessian times gradient on a common scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.statistics import Statistic
from sparsify.statistics.gradient import Gradient
from sparsify.statistics.hessian_gradient import HessianGradient

__all__ = ["BalancedGradients"]


class BalancedGradients(Statistic):
    """g / Σ|θ g| and H g / Σ|θ H g|, one after the other; `[2, ...]` with the weight's shape.

    The sums run over all weights of the program that have two dimensions or more, so that layers still compare, and
    do not depend on how the parameters are divided into runs.
    """

    data: ClassVar[Data] = "loss"

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Measure both on the whole program, and return those of the parameters that are wanted."""
        parameters = subject.program.parameters
        whole = replace(subject, parameters=list(parameters), signals=(), blocks=())
        found = [Gradient().measure(whole), HessianGradient().measure(whole)]
        scales = []
        for values in found:
            matrices = [name for name in values if parameters[name].ndim >= 2] or list(values)
            total = sum(float((values[name] * parameters[name].detach()).double().abs().sum()) for name in matrices)
            scales.append(1 / total if total > 0 else 0.0)
        names = [name for name in subject.parameters if all(name in values for values in found)]
        return {
            name: torch.stack([values[name] * scale for values, scale in zip(found, scales, strict=True)])
            for name in names
        }
