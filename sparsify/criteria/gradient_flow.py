"""Gradient flow, whatever the direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["GradientFlow"]


@dataclass(frozen=True)
class GradientFlow(Criterion):
    """|θ ⊙ (H g)|: keep what changes the gradient flow most, in either direction.

    GraSP without its sign: a weight whose removal would make the gradient much larger is kept as well, because it
    changes how the network trains. H g is that of the loss of outputs divided by 200, as for GraSP. Channels get the
    sum over their weights, blocks the mean.

    Reference: Lubana and Dick, "A Gradient Flow Framework For Analyzing Network Pruning", 2021.
    """

    needs: ClassVar[tuple[str, ...]] = ("hessian-gradient",)
    additive: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return |θ ⊙ (H g)|."""
        return (stats["hessian-gradient"] * stats.weight.detach()).abs()
