"""Exchange: some weights of a mask go, as many others come, in exact numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.pruning.ranking import Scored, lowest

__all__ = ["exchanged", "lowest_of"]


def exchanged(mask: Tensor, count: int, stay: Tensor, grow: Tensor) -> Tensor:
    """Drop the `count` weights of a mask that score lowest, and grow as many that score highest.

    A weight that was just dropped may grow again.

    Args:
        mask: what is kept.
        count: how many are exchanged; at most as many as are kept.
        stay: scores of weights that are kept.
        grow: scores of weights that are not.

    Returns:
        The new mask; it keeps as many as the old one.
    """
    left = mask & ~lowest_of(stay, mask, count)
    return left | lowest_of(-grow, ~left, count)


def lowest_of(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """Mark the `count` lowest scores among those that are True; of equal scores the later ones."""
    flat = scores.reshape(-1).masked_fill(~among.reshape(-1), torch.inf)
    (kept,) = lowest([Scored("", flat.numel(), lambda: iter((flat,)))], count)
    return ~kept.to(among.device).view(among.shape) & among
