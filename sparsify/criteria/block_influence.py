"""Block influence: how much a block turns its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.criteria import BlockStats, Criterion, Scope

__all__ = ["BlockInfluence"]


@dataclass(frozen=True)
class BlockInfluence(Criterion):
    """1 - cosine between a block's input and its output, averaged over the calibration data; for blocks only.

    For sequences the cosine is taken for each token, for other activations over each example as a whole.

    Reference: Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("blocks",)
    needs: ClassVar[tuple[str, ...]] = ("influence",)

    def block(self, stats: BlockStats) -> float:
        """Return the influence."""
        return float(stats["influence"])
