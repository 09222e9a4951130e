"""CKA: centred kernel alignment with the whole network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import BlockStats, ChannelStats, Criterion, Scope

__all__ = ["Cka"]


@dataclass(frozen=True)
class Cka(Criterion):
    """1 - linear CKA of the outputs with and without the structure: how much of the answers' geometry it holds.

    For channels and blocks; it asks for no labels. One forward over the calibration batches for each structure. CKA is
    blind to a rotation and to a common scale of the outputs. It should see more examples than the output has features;
    with fewer all scores are too low, in the same order.

    Reference: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ("output-similarity",)
    additive: ClassVar[bool] = True

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return 1 - CKA."""
        return 1 - stats["output-similarity"]

    def block(self, stats: BlockStats) -> float:
        """Return 1 - CKA."""
        return 1 - float(stats["output-similarity"])
