"""Network Slimming: scales of norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope
from sparsify.errors import PassError

__all__ = ["NormScale"]


@dataclass(frozen=True)
class NormScale(Criterion):
    """|γ| of the norm that a channel goes through; for channels.

    Where several norms scale the same channels, or a head has several scales, it is the mean of |γ|. Scales tell
    channels apart only after training with an L1 penalty on γ, which is not part of the criterion; fresh norms have
    γ = 1 everywhere. Scales of one network compare across its layers, but passes that divide by the mean of a group
    undo that.

    Reference: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", 2017.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the mean of |γ|."""
        if not stats.scales:
            raise PassError(
                f"The criterion norm-scale looks at the scales of norms, and a group of {stats.size} channels goes "
                "through none. Protect it (protect=...), or use another criterion, such as filter-norm or magnitude."
            )
        return torch.stack([scale.detach().double().abs().mean(1) for scale in stats.scales]).mean(0)
