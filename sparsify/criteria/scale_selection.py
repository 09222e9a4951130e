"""Sparse structure selection: trained scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import BlockStats, ChannelStats, Criterion, Scope

__all__ = ["ScaleSelection"]


@dataclass(frozen=True)
class ScaleSelection(Criterion):
    """|λ| of a scale on a channel, or on a whole block, after training the scales with an L1 penalty.

    All scales are trained together by accelerated proximal gradient, which sets those to zero that the loss does not
    hold up. The paper trains them along with the weights and removes what is zero; here the weights are frozen, the
    training is short, and the order of |λ| decides.

    Reference: Huang and Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", 2018.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ("trained-scales",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return |λ|."""
        return stats["trained-scales"].abs()

    def block(self, stats: BlockStats) -> float:
        """Return |λ| of the block's only scale."""
        return float(stats["trained-scales"].abs().mean())
