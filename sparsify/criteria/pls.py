"""Partial least squares: how much channels tell about labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope
from sparsify.errors import UsageError

__all__ = ["Pls"]

_MOST = 4  # components that the statistic has


@dataclass(frozen=True)
class Pls(Criterion):
    """Variable importance in projection (VIP) of a channel for the labels; for channels, and for blocks their mean.

    VIPⱼ² = d Σₖ Sₖ wⱼₖ² / Σₖ Sₖ for d features, with w the unit weights of component k and Sₖ the variance of the
    labels that it explains. The feature of a channel is its mean over positions. As in the paper there is one model of
    all candidates' channels, so a score depends on what else may be pruned.

    Options:
        components: of the model, 1 to 4.

    Reference: Jordao et al., "Deep Network Compression Based on Partial Least Squares", 2020; Jordao et al.,
    "Discriminative Layer Pruning for Convolutional Neural Networks", 2020 (blocks).
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ("label-projection",)

    components: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.components <= _MOST:
            raise UsageError(f"pls: components={self.components} is not between 1 and {_MOST}.")

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the importances."""
        return stats["label-projection"][:, self.components - 1]
