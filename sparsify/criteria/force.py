"""FORCE: foresight connection sensitivity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.criteria.snip import Snip

__all__ = ["Force"]


@dataclass(frozen=True)
class Force(Snip):
    """Sensitivity |g θ| with the gradient of the pruned network; weights go in 60 rounds and may return in later ones.

    θ is a weight as it was before pruning, g the gradient that it has in the network as it is pruned now: how
    sensitive the loss would be to the weight if it came back. The paper's number of weights falls exponentially over
    the rounds.

    Reference: de Jorge et al., "Progressive Skeletonization: Trimming more fat from a network at initialization", 2021.
    """

    rounds: ClassVar[int] = 60
    regrow: ClassVar[bool] = True
