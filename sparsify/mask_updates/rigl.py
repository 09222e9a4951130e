"""RigL: weights grow where the gradient is largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.mask_updates import Stats
from sparsify.mask_updates._periodic import Periodic

__all__ = ["Rigl"]


@dataclass
class Rigl(Periodic):
    """Drop the smallest weights of every layer, and grow as many where the dense gradient is largest.

    Every ΔT = 100 steps, for the first 75% of the run, α/2 (1 + cos(π t / T_end)) of a layer's weights with α = 0.3.
    The update takes the place of the optimizer's step. Weights that grow start at zero, and so does what the
    optimizer keeps for them. FLOPs for each step: (3 f_S ΔT + 2 f_S + f_D) / (ΔT + 1), with f_S and f_D those of a
    sparse and a dense forward pass.

    Reference: Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020.
    """

    replaces_step: ClassVar[bool] = True

    def grow(self, name: str, stats: Stats) -> Tensor:
        """Return the magnitudes of the gradients."""
        return stats.gradients[name].detach().abs()
