"""How far the outputs of two programs are apart."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.observation.calibration import Calibration
from sparsify.program import Program

__all__ = ["output_gap"]


def output_gap(one: Program, other: Program, calibration: Calibration) -> float:
    """Return the relative L2 distance of all floating outputs together, over the calibration data."""
    compared = _Compared(one.module(copy=False), other.module(copy=False))
    with torch.no_grad():
        for _ in calibration.run(compared, one):
            pass
    return math.sqrt(compared.distance / max(1e-30, compared.size))


class _Compared(nn.Module):
    """Runs two models on the same inputs and adds up how far apart their outputs are."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self._one, self._other = one, other
        self.distance = self.size = 0.0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        expected, found = self._one(*args, **kwargs), self._other(*args, **kwargs)
        for a, b in zip(pytree.tree_leaves(expected), pytree.tree_leaves(found), strict=True):
            if isinstance(a, Tensor) and a.is_floating_point():
                self.distance += float((a.double() - b.double()).square().sum())
                self.size += float(a.double().square().sum())
        return found
