"""Hessian times gradient of a softened loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.observation.calibration import Data
from sparsify.observation.second_order import second_derivatives
from sparsify.observation.subject import Subject
from sparsify.statistics import Statistic

__all__ = ["HessianGradient"]

TEMPERATURE = 200.0  # the output is divided by it, as in the authors' code


class HessianGradient(Statistic):
    """H g, the Hessian of the loss times its gradient, with outputs divided by 200; the weight's shape.

    Two runs: the mean gradient first, then the gradient of gᵀ·g(θ) with the first factor held fixed. Both factors
    reach over all trainable parameters.

    Reference: Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow", 2020.
    """

    data: ClassVar[Data] = "loss"

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Measure it."""
        parameters = {name: p for name, p in subject.program.parameters.items() if p.requires_grad}
        tensors = list(parameters.values())
        wanted = [name for name in subject.parameters if name in parameters]
        model = _Softened(subject.program.module(copy=False))
        first, count = [torch.zeros_like(p) for p in tensors], 0
        for _, loss in subject.calibration.run(model, subject.program):
            assert loss is not None
            for total, value in zip(first, torch.autograd.grad(loss, tensors, allow_unused=True), strict=True):
                if value is not None:
                    total.add_(value)
            count += 1
        second = {name: torch.zeros_like(parameters[name]) for name in wanted}
        with second_derivatives():
            for _, loss in subject.calibration.run(model, subject.program):
                assert loss is not None
                gradients = torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True)
                pairs = zip(first, gradients, strict=True)
                product = sum((fixed / count * g).sum() for fixed, g in pairs if g is not None)
                assert isinstance(product, Tensor)
                found = torch.autograd.grad(product, [parameters[name] for name in wanted], allow_unused=True)
                for name, value in zip(wanted, found, strict=True):
                    if value is not None:
                        second[name] += value
        return {name: value.div_(max(1, count)) for name, value in second.items()}


class _Softened(nn.Module):
    """A model whose outputs are divided by the temperature."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return pytree.tree_map_only(Tensor, _divided, self._model(*args, **kwargs))


def _divided(value: Tensor) -> Tensor:
    return value / TEMPERATURE if value.is_floating_point() else value
