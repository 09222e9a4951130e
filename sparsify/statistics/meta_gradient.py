"""Gradient of the loss after a few steps of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sparsify.batches import checked_loss
from sparsify.observation.calibration import Data
from sparsify.observation.second_order import second_derivatives
from sparsify.observation.subject import Subject
from sparsify.statistics import Statistic

__all__ = ["MetaGradient"]

STEPS, LEARNING_RATE = 3, 0.1


class MetaGradient(Statistic):
    """dL(θ_M)/dθ_0: how the loss after M steps of gradient descent changes with the weights before; the weight's shape.

    Each of the first M calibration batches makes one step of plain gradient descent on all trainable parameters, in
    evaluation mode; the loss is the mean over the other batches. With no more than M batches they all make a step and
    give the loss, too.

    Args:
        steps: M.
        learning_rate: of each step.

    Reference: Alizadeh et al., "Prospect Pruning: Finding Trainable Weights at Initialization using Meta-Gradients",
    2022.
    """

    data: ClassVar[Data] = "loss"

    def __init__(self, steps: int = STEPS, learning_rate: float = LEARNING_RATE) -> None:
        self._steps = steps
        self._learning_rate = learning_rate

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Train with a graph of the training, then go back through it."""
        program, calibration = subject.program, subject.calibration
        assert calibration.task is not None
        model = program.module(copy=False)
        trained = {n: p.detach().clone().requires_grad_() for n, p in program.parameters.items() if p.requires_grad}
        start = {name: trained[name] for name in subject.parameters if name in trained}

        def loss(values: Mapping[str, Tensor], batch: Any) -> Tensor:
            assert calibration.task is not None
            return checked_loss(calibration.task, _With(model, values), batch)

        drawn = calibration.draw(program)
        with second_derivatives():
            used = []
            for _ in range(self._steps):
                if (batch := next(drawn, None)) is None:
                    break
                used.append(batch)
                trained = self._step(trained, loss(trained, batch))
            ends = {name: value.detach().requires_grad_() for name, value in trained.items()}
            total, count = [torch.zeros_like(end) for end in ends.values()], 0
            rest = next(drawn, None)
            for batch in used if rest is None else chain([rest], drawn):
                total = [a + b for a, b in zip(total, _gradients(loss(ends, batch), ends), strict=True)]
                count += 1
            return self._back(start, trained, [value / max(1, count) for value in total])

    def _step(self, values: Mapping[str, Tensor], loss: Tensor) -> dict[str, Tensor]:
        gradients = _gradients(loss, values, create_graph=True)
        pairs = zip(values.items(), gradients, strict=True)
        return {name: value - self._learning_rate * gradient for (name, value), gradient in pairs}

    @staticmethod
    def _back(start: Mapping[str, Tensor], trained: Mapping[str, Tensor], ends: Sequence[Tensor]) -> dict[str, Tensor]:
        found = torch.autograd.grad(list(trained.values()), list(start.values()), list(ends), allow_unused=True)
        pairs = zip(start.items(), found, strict=True)
        return {name: torch.zeros_like(value) if back is None else back for (name, value), back in pairs}


class _With(nn.Module):
    """A model that runs with other values of its parameters."""

    def __init__(self, model: nn.Module, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._model = [model]  # not a submodule: its parameters are not those of this module
        self._values = dict(values)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self._model[0], self._values, args, kwargs)


def _gradients(loss: Tensor, values: Mapping[str, Tensor], *, create_graph: bool = False) -> list[Tensor]:
    tensors = list(values.values())
    found = torch.autograd.grad(loss, tensors, create_graph=create_graph, allow_unused=True)
    pairs = zip(tensors, cast(Sequence["Tensor | None"], found), strict=True)
    return [torch.zeros_like(tensor) if value is None else value for tensor, value in pairs]
