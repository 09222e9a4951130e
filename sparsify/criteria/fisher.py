"""Fisher information of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, WeightStats

__all__ = ["Fisher"]


@dataclass(frozen=True)
class Fisher(Criterion):
    """E[g²] over single examples: the diagonal of the empirical Fisher information.

    It says how much the answers change when a weight moves a little: the paper chooses by it which weights to train.
    It does not say what is lost when the weight is zero; for pruning use criteria that multiply by θ. Channels get
    the sum over their weights, blocks the mean.

    Reference: Sung et al., "Training Neural Networks with Fixed Sparse Masks", 2021.
    """

    needs: ClassVar[tuple[str, ...]] = ("squared-gradient",)
    additive: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def weight(self, stats: WeightStats) -> Tensor:
        """Return E[g²]."""
        return stats["squared-gradient"]
