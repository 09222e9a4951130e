"""Warping: images moved, zoomed, blurred and resampled; what corruptions are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["blurred", "clouds", "convolved", "moved", "shifted", "zoomed"]


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return images `[N, C, H, W]` blurred by a Gaussian of this deviation in pixels; what is outside is the edge."""
    radius = max(1, math.ceil(3 * sigma))
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    line = torch.exp(-0.5 * (steps / max(sigma, 1e-3)) ** 2)
    line = line / line.sum()
    return convolved(convolved(images, line[None, :]), line[:, None])


def convolved(images: Tensor, kernel: Tensor) -> Tensor:
    """Return every channel of images `[N, C, H, W]` convolved with a kernel of odd sides; outside is the edge."""
    high, wide = kernel.shape
    padded = F.pad(images, [wide // 2, wide // 2, high // 2, high // 2], mode="replicate")
    channels = images.shape[1]
    return F.conv2d(padded, kernel.expand(channels, 1, high, wide).contiguous(), groups=channels)


def moved(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images whose pixel (y, x) is what was at (y + rows, x + columns), between pixels linearly.

    Args:
        images: `[N, C, H, W]`; what is outside is the edge.
        rows: in pixels, `[N, H, W]` or what broadcasts to it.
        columns: the same.
    """
    height, width = images.shape[-2:]
    y = torch.arange(height, device=images.device, dtype=images.dtype)[:, None] + rows
    x = torch.arange(width, device=images.device, dtype=images.dtype) + columns
    # grid_sample wants -1 and 1 at the outer edges of the first and last pixel.
    places = [(2 * place + 1) / size - 1 for place, size in ((x, width), (y, height))]
    grid = torch.stack([place.expand(len(images), height, width) for place in places], -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def shifted(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images whose pixel (y, x) is what was whole pixels away, `[N, H, W]`; what is outside is the edge."""
    n, _, height, width = images.shape
    y = (torch.arange(height, device=images.device)[:, None] + rows.long()).clamp(0, height - 1)
    x = (torch.arange(width, device=images.device) + columns.long()).clamp(0, width - 1)
    numbers = torch.arange(n, device=images.device)[:, None, None]
    return images[numbers, :, y, x].movedim(3, 1).contiguous()


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Return the middle of images, enlarged by a factor."""
    height, width = images.shape[-2:]
    away = 1 / factor - 1
    rows = (torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2) * away
    columns = (torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2) * away
    return moved(images, rows[:, None], columns[None, :])


def clouds(layers: list[Tensor], size: tuple[int, int], decay: float) -> Tensor:
    """Return sums of noise of finer and finer grain, each weaker by a factor, `[N, 1, H, W]` from 0 to 1 in each image.

    Args:
        layers: numbers of [0, 1) `[N, 1, h, w]`, coarse ones first.
        size: of the images.
        decay: how much weaker each layer is than the one before.
    """
    found = torch.zeros(len(layers[0]), 1, *size, device=layers[0].device)
    for depth, layer in enumerate(layers):
        found = found + F.interpolate(layer, size, mode="bicubic", align_corners=True) / decay**depth
    low, high = (limit(found, dim=(1, 2, 3), keepdim=True) for limit in (torch.amin, torch.amax))
    return (found - low) / (high - low).clamp_min(1e-6)
