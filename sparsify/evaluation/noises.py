"""Noise: corruptions that change every pixel by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.evaluation.draws import Draws

__all__ = ["gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise"]

Level = tuple[float, ...]


def gaussian_noise(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Add normal noise; the level is its deviation."""
    return images + level[0] * draws.normal(*images.shape[1:])


def shot_noise(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Count photons: Poisson noise; the level is how many make white."""
    return draws.poisson(images * level[0]).to(images.dtype) / level[0]


def impulse_noise(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Make values black or white, one as often as the other; the level is the share of the values."""
    drawn = draws.uniform(*images.shape[1:])
    white = torch.where(drawn < level[0] / 2, 1.0, images)
    return torch.where(drawn > 1 - level[0] / 2, 0.0, white)


def speckle_noise(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Add normal noise in proportion to the value; the level is its deviation where the image is white."""
    return images + level[0] * images * draws.normal(*images.shape[1:])
