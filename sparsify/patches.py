"""Patches: what the kernel of a convolution sees at every position of its input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

__all__ = ["Window", "patches"]


@dataclass(frozen=True)
class Window:
    """How a convolution moves over its input; numbers hold for all its dimensions.

    Attributes:
        size: of the kernel in each dimension.
        stride: of the convolution.
        padding: zeros on both sides, or `same` or `valid`.
        dilation: of the kernel.
        groups: of the convolution.
    """

    size: tuple[int, ...]
    stride: int | Sequence[int] = 1
    padding: int | Sequence[int] | str = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1


def patches(x: Tensor, window: Window) -> Tensor:
    """Return the patches of images `[B, C, ...]` as rows `[groups, B x positions, C / groups x kernel]`.

    A row runs over the channels of one group and, fastest, over the kernel, as the weight of the convolution does.
    """
    n = len(window.size)
    if x.ndim == n + 1:
        x = x[None]
    strides, dilations = _each(window.stride, n), _each(window.dilation, n)
    reach = [dilation * (size - 1) for dilation, size in zip(dilations, window.size, strict=True)]
    sides = _padding(window, reach)
    x = F.pad(x, [amount for side in reversed(sides) for amount in side])
    for dim in range(n):
        x = x.unfold(2 + dim, reach[dim] + 1, strides[dim])[..., :: dilations[dim]]
    batch, channels = x.shape[:2]
    x = x.reshape(batch, window.groups, channels // window.groups, *x.shape[2:])
    positions, kernel = range(3, 3 + n), range(3 + n, 3 + 2 * n)
    rows = x.permute(1, 0, *positions, 2, *kernel)
    return rows.reshape(window.groups, -1, channels // window.groups * math.prod(window.size))


def _padding(window: Window, reach: Sequence[int]) -> list[tuple[int, int]]:
    if window.padding == "same":
        return [(r // 2, r - r // 2) for r in reach]
    amounts = [0] * len(reach) if isinstance(window.padding, str) else _each(window.padding, len(reach))
    return [(amount, amount) for amount in amounts]


def _each(value: int | Sequence[int], count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values
