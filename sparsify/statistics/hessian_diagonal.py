"""Diagonal of the Hessian of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.observation.calibration import Data
from sparsify.observation.second_order import second_derivatives
from sparsify.observation.subject import Subject
from sparsify.statistics import Statistic

__all__ = ["HessianDiagonal"]

PROBES = 8  # for each batch


class HessianDiagonal(Statistic):
    """Estimate of the diagonal of the Hessian, mean of v ⊙ (H v) over random signs v; the weight's shape.

    For each batch there are 8 probes, which reach over all wanted parameters and follow from the seed. The estimate
    is unbiased, exact for a diagonal Hessian, and else off by the other entries of a row: its variance is the sum of
    their squares divided by the number of probes.

    Reference: Hutchinson, "A Stochastic Estimator of the Trace of the Influence Matrix for Laplacian Smoothing
    Splines", 1989; Bekas et al., "An estimator for the diagonal of a matrix", 2007.
    """

    data: ClassVar[Data] = "loss"

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Measure it."""
        parameters = subject.trainable
        tensors = list(parameters.values())
        total, count = [torch.zeros_like(value) for value in tensors], 0
        source = torch.Generator().manual_seed(subject.calibration.seed)
        model = subject.program.module(copy=False)
        with second_derivatives():
            for _, loss in subject.calibration.run(model, subject.program) if tensors else ():
                assert loss is not None
                gradients = torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True)
                for _ in range(PROBES):
                    _probe(tensors, gradients, total, source)
                    count += 1
        return {name: value.div_(max(1, count)) for name, value in zip(parameters, total, strict=True)}


def _probe(
    tensors: list[Tensor], gradients: tuple[Tensor | None, ...], total: list[Tensor], source: torch.Generator
) -> None:
    """Add v ⊙ (H v) for one v; where the loss is linear in all parameters H is zero."""
    signs = [torch.randint(0, 2, value.shape, generator=source).to(value) * 2 - 1 for value in tensors]
    pairs = zip(gradients, signs, strict=True)
    curved = [(gradient, sign) for gradient, sign in pairs if gradient is not None and gradient.requires_grad]
    if not curved:
        return
    product = torch.stack([(gradient * sign).sum() for gradient, sign in curved]).sum()
    found = torch.autograd.grad(product, tensors, retain_graph=True, allow_unused=True)
    for sum_, value, sign in zip(total, found, signs, strict=True):
        if value is not None:
            sum_.addcmul_(value, sign)
