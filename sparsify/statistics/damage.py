"""How much worse a program is without a block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sparsify import verify
from sparsify.observation.subject import Subject
from sparsify.program import Program
from sparsify.removal import remove
from sparsify.statistics import Statistic

__all__ = ["Damage"]


class Damage(Statistic):
    """How much the loss rises when a block alone is skipped; a scalar for each block.

    Without a task it is the relative L2 change of the output on the example inputs.
    """

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Run the program without each block in turn."""
        program = subject.program
        without = {block.name: remove(program, [block], simplify=False) for block in subject.blocks}
        with torch.no_grad():
            if subject.calibration.task is None:
                expected = verify.outputs(program)
                found = {name: _change(expected, verify.outputs(other)) for name, other in without.items()}
            else:
                base = _loss(program, subject)
                found = {name: _loss(other, subject) - base for name, other in without.items()}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}


def _loss(program: Program, subject: Subject) -> float:
    run = subject.calibration.run(program.module(copy=False), program)
    losses = [float(loss) for _, loss in run if loss is not None]
    return sum(losses) / max(1, len(losses))


def _change(expected: Sequence[Any], found: Sequence[Any]) -> float:
    """Return the relative L2 distance of all floating outputs together."""
    pairs = [(a.double(), b.double()) for a, b in zip(expected, found, strict=True) if torch.is_floating_point(a)]
    distance = sum(float((a - b).square().sum()) for a, b in pairs)
    return math.sqrt(distance / max(1e-30, sum(float(a.square().sum()) for a, _ in pairs)))
