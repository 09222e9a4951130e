"""Static: masks that never change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sparsify.mask_updates import MaskUpdate, Stats

__all__ = ["Static"]


@dataclass
class Static(MaskUpdate):
    """Train with the masks that there are: the baseline of every exchange.

    Reference: Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020.
    """

    def masks(self, stats: Stats) -> Mapping[str, Tensor]:
        """Return the masks that there are."""
        return stats.masks
