"""Augmentation: what training does to images at random; the same generator gives the same images."""

from __future__ import annotations

import math
import random

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

__all__ = ["crop_and_flip", "resized_box"]

_AREA = (0.08, 1.0)  # the share of the image that a box covers
_RATIO = (3 / 4, 4 / 3)  # of its width to its height
_TRIES = 10


def crop_and_flip(images: Tensor, generator: Generator, padding: int = 4) -> Tensor:
    """Shift every image of a batch by up to `padding` pixels in both directions, and mirror every other one.

    Args:
        images: `[N, C, H, W]`; what comes in from outside is 0.
        generator: of the shifts and of what is mirrored.
        padding: the longest shift.

    Reference: Lee et al., Deeply-Supervised Nets, 2015 (the usual augmentation of CIFAR).
    """
    n, _, height, width = images.shape
    shifts = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator)
    mirrored = torch.randint(0, 2, (n, 1), generator=generator).bool()
    columns = torch.arange(width).expand(n, width)
    rows = torch.arange(height) + shifts[0]
    columns = torch.where(mirrored, columns.flip(1), columns) + shifts[1]
    padded = F.pad(images, [padding] * 4)
    # One gather for the whole batch; the channels come last because a slice stands between the indices.
    found = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return found.movedim(3, 1).contiguous()


def resized_box(width: int, height: int, source: random.Random) -> tuple[float, float, float, float]:
    """Draw the part of an image that is shown: left, upper, right and lower edge in pixels.

    It covers between 8% and all of the image, and its sides are as 3:4 to 4:3. Where no such box is found in ten
    tries, it is the largest box of a permitted shape in the middle of the image.

    Reference: Szegedy et al., Going Deeper with Convolutions, 2015.
    """
    for _ in range(_TRIES):
        area = width * height * source.uniform(*_AREA)
        ratio = math.exp(source.uniform(*map(math.log, _RATIO)))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, upper = source.randint(0, width - wide), source.randint(0, height - high)
            return left, upper, left + wide, upper + high
    wide = min(width, max(1, round(height * _RATIO[1])))
    high = min(height, max(1, round(width / _RATIO[0])))
    left, upper = (width - wide) // 2, (height - high) // 2
    return left, upper, left + wide, upper + high
