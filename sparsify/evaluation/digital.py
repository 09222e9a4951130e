"""Digital: what processing and storing do to images."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from torch import Tensor

from sparsify.errors import UsageError
from sparsify.evaluation.draws import Draws
from sparsify.evaluation.warping import blurred, moved

__all__ = ["contrast", "elastic", "jpeg", "pixelate", "saturate"]

Level = tuple[float, ...]


def contrast(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Bring every channel nearer to its mean; the level is what is left of the contrast."""
    del draws
    mean = images.mean((2, 3), keepdim=True)
    return mean + level[0] * (images - mean)


def saturate(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Make colours stronger: saturation, as in HSV, times the level, at most 1; greys stay."""
    del draws
    value, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    own = (value - least) / value.clamp_min(1e-6)
    return value - (value - images) * ((level[0] * own).clamp(0, 1) / own.clamp_min(1e-6))


def elastic(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Bend images: every pixel moves by a smooth random field.

    The level is the field's deviation, and that of the Gaussian which makes it smooth, as shares of the shorter side.
    """
    size = min(images.shape[-2:])
    field = blurred(draws.normal(2, *images.shape[-2:]), level[1] * size)
    field = field / field.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6) * level[0] * size
    return moved(images, field[:, 0], field[:, 1])


def pixelate(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Show an image in larger pixels, each the mean of what it covers; the level is their side in pixels, not whole."""
    del draws
    down, across = (_coarse(side, level[0]).to(images) for side in images.shape[-2:])
    return down @ images @ across.T


def _coarse(side: int, block: float) -> Tensor:
    """Return what makes a line of pixels coarse, `[side, side]`.

    Blocks get the mean of what they cover, and pixels the mean of the blocks that cover them, by area.
    """
    edges = torch.arange(math.ceil(side / block) + 1, dtype=torch.float64) * block
    left = torch.arange(side, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], left + 1) - torch.maximum(edges[:-1, None], left)
    covered = covered.clamp_min(0)[covered.max(1).values > 1e-9]
    return covered.T @ (covered / covered.sum(1, keepdim=True))


def jpeg(images: Tensor, level: Level, draws: Draws) -> Tensor:
    """Store as JPEG and read again; the level is the quality that Pillow is asked for.

    Raises:
        UsageError: Pillow is not installed.
    """
    del draws
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("The corruption jpeg needs Pillow: pip install sparsify-fx[data].") from error
    grey = images.shape[1] == 1
    found = []
    for image in (images * 255).round().clamp(0, 255).byte().cpu().movedim(1, 3):
        stored = io.BytesIO()
        Image.fromarray(image.squeeze(2).numpy() if grey else image.numpy()).save(
            stored, "JPEG", quality=round(level[0])
        )
        found.append(torch.from_numpy(np.array(Image.open(stored))).view(image.shape))
    return torch.stack(found).movedim(3, 1).to(images) / 255
