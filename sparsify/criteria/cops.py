"""COPS: two scores at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import Criterion, WeightStats
from sparsify.errors import UsageError

__all__ = ["Cops"]


@dataclass(frozen=True)
class Cops(Criterion):
    """(1 - b) · SNIP + b · GraSP: |θ g| and θ ⊙ (H g), each divided by the sum of its absolute values over all weights.

    The paper maximises one score under the condition that another does not fall below a threshold, relaxes that to a
    linear program, and so ranks weights by a weighted sum; it finds the weight from the threshold. Here the weight is
    the option, and the two scores are the paper's main example. Channels get the sum over their weights, blocks the
    mean.

    Options:
        balance: b in [0, 1]: 0 is SNIP alone, 1 is GraSP alone.

    Reference: Wimmer et al., "COPS: Controlled Pruning Before Training Starts", 2021.
    """

    needs: ClassVar[tuple[str, ...]] = ("balanced-gradients",)
    additive: ClassVar[bool] = True

    balance: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise UsageError(f"cops: balance={self.balance} is not between 0 and 1.")

    def weight(self, stats: WeightStats) -> Tensor:
        """Return the weighted sum."""
        sensitivity, flow = stats["balanced-gradients"] * stats.weight.detach()
        return torch.lerp(sensitivity.abs(), flow, self.balance)
