"""Filters: the rows that make the channels of a group."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.criteria import ChannelStats
from sparsify.errors import PassError

__all__ = ["filters"]


def filters(stats: ChannelStats, criterion: str) -> list[Tensor]:
    """Return for each weight that makes the channels its filters as float64, `[size, weights]`.

    Raises:
        PassError: no layer makes the channels.
    """
    if not stats.made:
        raise PassError(
            f"The criterion {criterion} looks at the filters that make channels, and a group of {stats.size} channels "
            "is made by no linear or convolution layer alone. Protect it (protect=...), or use another criterion."
        )
    return [rows.detach().to(torch.float64) for rows in stats.made]
