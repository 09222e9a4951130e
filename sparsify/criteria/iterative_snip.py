"""Iterative SNIP: connection sensitivity, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.criteria.snip import Snip

__all__ = ["IterativeSnip"]


@dataclass(frozen=True)
class IterativeSnip(Snip):
    """Connection sensitivity |g θ| of what is left; weights go in 60 rounds and never return.

    One round at a high sparsity judges weights by a network that will not exist. The paper's number of weights falls
    exponentially over the rounds.

    Reference: de Jorge et al., "Progressive Skeletonization: Trimming more fat from a network at initialization", 2021.
    """

    rounds: ClassVar[int] = 60
