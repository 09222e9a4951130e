"""PHEW: paths with higher edge weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import Criterion, Scope, WeightStats

__all__ = ["Phew"]


@dataclass(frozen=True)
class Phew(Criterion):
    """How early random walks from inputs to outputs, biased by |θ|, come along the weight; needs no data.

    For weights. The paper walks until enough weights have been visited; ranked by their first visit, the best weights
    of the whole program are those that it would have at any density. So use `scope=global`: other scopes cut paths.
    Weights that no walk found follow by magnitude. Walks take single positions of a kernel, not whole kernels. Between
    layers they follow the indices that axes share, through residual sums, attention and reshapes; where nothing is
    shared they go on at random.

    Reference: Patil and Dovrolis, "PHEW: Constructing Sparse Networks that Learn Fast and Generalize Well Without
    Training Data", 2021.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("weights",)
    needs: ClassVar[tuple[str, ...]] = ("walks",)

    def weight(self, stats: WeightStats) -> Tensor:
        """Return the walks that were left at the first visit; those without one get |θ| / max|θ| / 2 instead."""
        size = stats.weight.detach().double().abs()
        return stats["walks"].to(size.device) + 0.5 * size / size.max().clamp_min(1e-300)
