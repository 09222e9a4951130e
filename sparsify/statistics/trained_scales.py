"""Scales of channels and blocks, trained to be sparse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.observation.calibration import Data
from sparsify.observation.signals import BlockSignal
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Statistic

__all__ = ["TrainedScales"]


class TrainedScales(Statistic):
    """Scales λ of channels `[size]`, or of blocks `[1]`, after training them alone with an L1 penalty on them.

    All scales start at one and are trained together; the weights are frozen. Constants: 10 rounds over the calibration
    batches, learning rate 0.1, strength of the penalty 0.01, momentum 0.9. The result is what the proximal step gives,
    with exact zeros.

    Reference: Huang and Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", 2018 (accelerated
    proximal gradient).
    """

    data: ClassVar[Data] = "loss"

    def __init__(self, rounds: int = 10, rate: float = 0.1, strength: float = 0.01, momentum: float = 0.9) -> None:
        self._rounds, self._rate, self._strength, self._momentum = rounds, rate, strength, momentum

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Train the scales."""
        device = next(iter(subject.program.parameters.values())).device
        sizes = {signal.key: 1 if isinstance(signal, BlockSignal) else signal.size for signal in subject.signals}
        gates = {key: torch.ones(size, device=device, requires_grad=True) for key, size in sizes.items()}
        watched = Watched(subject.program)
        for signal in reversed(subject.signals):  # so that a block's input is what the scale before it has left
            signal.scale(watched, gates[signal.key])
        model, tensors = watched.ready(), list(gates.values())
        scales = [gate.detach().clone() for gate in tensors]
        velocities = [torch.zeros_like(gate) for gate in scales]
        for _ in range(self._rounds if tensors else 0):
            for _, loss in subject.calibration.run(model, subject.program):
                assert loss is not None
                gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
                for gate, scale, velocity, gradient in zip(tensors, scales, velocities, gradients, strict=True):
                    self._step(gate.detach(), scale, velocity, 0.0 if gradient is None else gradient)
        return dict(zip(gates, scales, strict=True))

    def _step(self, gate: Tensor, scale: Tensor, velocity: Tensor, gradient: Tensor | float) -> None:
        """Step from where momentum has led, shrink, and let momentum lead on; all in place.

        z = S(λ' - ηg), v ← z - λ' + μv, λ' ← z + μv, where S takes ηγ off every absolute value.
        """
        scale.copy_(torch.nn.functional.softshrink(gate - self._rate * gradient, self._rate * self._strength))
        velocity.mul_(self._momentum).add_(scale - gate)
        gate.copy_(scale + self._momentum * velocity)
