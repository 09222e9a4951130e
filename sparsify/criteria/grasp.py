"""GraSP: gradient signal preservation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Grasp"]


@dataclass(frozen=True)
class Grasp(Criterion):
    """Gradient signal preservation θ ⊙ (H g): keep what the gradient flow needs.

    Removing the weight θ changes the squared gradient norm by about -2 θ (H g), so the weights with the highest
    θ ⊙ (H g) are kept. This is the sign of the authors' code, which keeps the lowest -θ ⊙ (H g); a survey that states
    the opposite sign would keep the worst weights. The output is divided by a temperature of 200 before the loss.

    Reference: Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow", 2020.
    """

    needs: ClassVar[tuple[str, ...]] = ("hessian-gradient",)
    additive: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return θ ⊙ (H g)."""
        return stats["hessian-gradient"] * stats.weight.detach()
