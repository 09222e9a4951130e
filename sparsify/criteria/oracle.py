"""Oracle: try it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.criteria import BlockStats, Criterion, Scope

__all__ = ["Oracle"]


@dataclass(frozen=True)
class Oracle(Criterion):
    """How much the loss rises when the block alone is skipped; for blocks only.

    One forward over the calibration batches for each block. Without a task it is the relative change of the output on
    the example inputs.

    Reference: Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("blocks",)
    needs: ClassVar[tuple[str, ...]] = ("damage",)

    def block(self, stats: BlockStats) -> float:
        """Return the damage."""
        return float(stats["damage"])
