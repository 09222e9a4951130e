"""Draws: random numbers of a generator for each image, so that an image is corrupted alike in every batch."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from torch import Generator, Tensor

__all__ = ["Draws"]


class Draws:
    """What is random about the corruption of some images.

    The numbers follow from the seed, the corruption and the number of the image in its data set, and from nothing else:
    neither from the size of the batch, the device, nor the severity, so that a corruption gets worse without changing.

    Args:
        key: the corruption, and whatever else shall have numbers of its own.
        seed: of everything.
        first: the number of the first image.
        count: how many images there are.
        device: where the numbers go; they are drawn on the CPU.
    """

    def __init__(self, key: str, seed: int, first: int, count: int, device: torch.device | None = None) -> None:
        numbers = range(first, first + count)
        # A CPU generator looks at 32 bits of its seed only.
        self._generators = [Generator().manual_seed(zlib.crc32(f"{seed} {key} {n}".encode())) for n in numbers]
        self._device = device

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers `[N, *shape]`."""
        return self._stack(lambda number, generator: torch.randn(shape, generator=generator))

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers of [0, 1) `[N, *shape]`."""
        return self._stack(lambda number, generator: torch.rand(shape, generator=generator))

    def poisson(self, rates: Tensor) -> Tensor:
        """Return counts of Poisson distributions with these means, `[N, ...]`."""
        means = rates.cpu()
        return self._stack(lambda number, generator: torch.poisson(means[number], generator))

    def _stack(self, draw: Callable[[int, Generator], Tensor]) -> Tensor:
        found = torch.stack([draw(number, generator) for number, generator in enumerate(self._generators)])
        return found.to(self._device)
