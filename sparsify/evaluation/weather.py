"""Weather: fog, frost, snow and brightness, all computed; no photographs are needed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.evaluation.draws import Draws
from sparsify.evaluation.warping import clouds, moved

__all__ = ["brightness", "fog", "frost", "snow"]

Level = tuple[float, ...]

_ICE = (0.82, 0.92, 1.0)  # the colour of frost
_FALL = 1.2  # the angle of falling snow to the horizontal, in radians


def fog(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Add clouds and take the contrast that they leave; the level is how thick they are and how fast their grain fades.

    (x + c fog) m / (m + c), where m is the brightest value of the image.
    """
    thick, decay = level
    cloud = clouds(_layers(images, draws), _size(images), decay)
    brightest = images.amax((1, 2, 3), keepdim=True)
    return (images + thick * cloud) * brightest / (brightest + thick).clamp_min(1e-6)


def frost(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Cover the image with crystals of ice; the level is how much of the image they hide where they are thickest.

    Ice is ridges of noise, |2u - 1| turned round, on a veil. Hendrycks and Dietterich lay photographs of frost over the
    image instead.
    """
    veil = clouds(_layers(images, draws), _size(images), 1.7)
    ridges = clouds([1 - (2 * layer - 1).abs() for layer in _layers(images, draws, finer=1)], _size(images), 1.3)
    cover = 0.25 + 0.35 * veil + 0.4 * ridges**2
    return images + level[0] * cover * ((0.6 + 0.4 * ridges) * _tint(images) - images)


def snow(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Let it snow: a whiter image, and flakes that fall along a line.

    The level is the share of flakes, their size and the length of their fall in pixels, and how much whiter it gets.
    """
    share, grain, length, whiter = level
    height, width = _size(images)
    small = [max(2, round(side / grain)) for side in (height, width)]
    drawn = draws.uniform(1, *small)
    flakes = F.interpolate((drawn < share) * (0.6 + 0.4 * drawn / share), (height, width), mode="bilinear")
    along = torch.tensor(_FALL, device=images.device)
    steps = max(2, round(length) + 1)
    fallen = torch.stack(
        [moved(flakes, step / (steps - 1) * length * along.sin(), step / (steps - 1) * length * along.cos())
         for step in range(steps)]
    ).mean(0)  # fmt: skip
    grey = images.mean(1, keepdim=True)
    pale = (1 - whiter) * images + whiter * torch.maximum(images, 0.5 + 0.5 * grey)
    return pale + (1 - pale) * (2.5 * fallen).clamp(0, 1)


def brightness(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Add to the value of every colour (the largest of its parts), and keep hue and saturation; black becomes grey."""
    del draws
    value = images.amax(1, keepdim=True)
    brighter = (value + level[0]).clamp(0, 1)
    return torch.where(value > 0, images * brighter / value.clamp_min(1e-6), brighter)


def _layers(images: Tensor, draws: Draws, finer: int = 0) -> list[Tensor]:
    """Draw noise of 2, 4, 8, ... grains up to one for each pixel."""
    size, grains = max(_size(images)), 2 << finer
    sides: list[int] = []
    while grains < 2 * size and len(sides) < 8:
        sides.append(min(grains, size) + 1)
        grains *= 2
    return [draws.uniform(1, side, side) for side in sides]


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def _tint(images: Tensor) -> Tensor:
    colour = _ICE if images.shape[1] == 3 else (sum(_ICE) / 3,)
    return torch.tensor(colour, device=images.device, dtype=images.dtype)[:, None, None]
