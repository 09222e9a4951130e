"""Blur: corruptions that mix a pixel with its neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsify.evaluation.draws import Draws
from sparsify.evaluation.warping import blurred, convolved, moved, shifted, zoomed

__all__ = ["defocus_blur", "gaussian_blur", "glass_blur", "motion_blur", "zoom_blur"]

Level = tuple[float, ...]

_FINE = 5  # parts of a pixel's side that a disk is measured with


def gaussian_blur(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Blur by a Gaussian; the level is its deviation in pixels."""
    del draws
    return blurred(images, level[0])


def defocus_blur(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Spread every point over a disk, as a lens does; the level is its radius in pixels."""
    del draws
    reach = math.ceil(level[0])
    side = (2 * reach + 1) * _FINE
    fine = (torch.arange(side, device=images.device, dtype=images.dtype) - (side - 1) / 2) / _FINE
    inside = (fine[:, None] ** 2 + fine**2 <= level[0] ** 2).to(images.dtype)
    kernel = inside.unflatten(0, (-1, _FINE)).unflatten(2, (-1, _FINE)).sum((1, 3))  # type: ignore[no-untyped-call]
    return convolved(images, kernel / kernel.sum())


def motion_blur(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Move images along a line while they are exposed.

    The line's angle is drawn, up to 45 degrees to the horizontal. The level is its length in pixels, and the
    deviation of the Gaussian by which the exposure fades along it.
    """
    length, sigma = level
    angle = (draws.uniform(1, 1) - 0.5) * math.pi / 2
    total, found = 0.0, torch.zeros_like(images)
    steps = max(8, math.ceil(length))  # a pixel apart, or less
    for way in (length * step / steps for step in range(steps + 1)):
        weight = math.exp(-0.5 * (way / sigma) ** 2)
        found = found + weight * moved(images, way * angle.sin(), way * angle.cos())
        total += weight
    return found / total


def zoom_blur(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Zoom in while the image is exposed; the level is the last factor."""
    del draws
    steps = 9
    factors = [1 + (level[0] - 1) * step / (steps - 1) for step in range(steps)]
    return torch.stack([zoomed(images, factor) for factor in factors]).mean(0)


def glass_blur(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Look through frosted glass: blur, take every pixel from somewhere near, and blur again.

    The level is the blur's deviation and how far away, both in pixels: offsets of less than half a pixel are none.
    """
    sigma, reach = level
    rows, columns = ((2 * reach * (draws.uniform(*images.shape[-2:]) - 0.5)).round() for _ in range(2))
    return blurred(shifted(blurred(images, sigma), rows, columns), sigma)
