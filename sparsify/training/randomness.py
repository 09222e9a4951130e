"""Randomness of a training: everything comes from its seed and the number of the step or epoch."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["derived_seed", "generators_restored", "seed_generators"]

_RANKS_APART = 0x9E3779B1


@contextlib.contextmanager
def generators_restored(device: torch.device) -> Iterator[None]:
    """Leave all generators that a task may draw from as they were: torch's, numpy's and Python's."""
    numpys, pythons = np.random.get_state(), random.getstate()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(numpys)
            random.setstate(pythons)


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed all generators that a step may draw from."""
    np.random.seed(seed)
    random.seed(seed)
    # Not torch.manual_seed: it reaches for every accelerator there might be, and takes longer than a small step.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def derived_seed(seed: int, index: int, *, of_epoch: bool, rank: int = 0) -> int:
    """Return the seed of a step or an epoch; those of runs with neighbouring seeds, and of ranks, lie far apart.

    The data of a step, which all ranks draw alike, count as rank -1.
    """
    index += _RANKS_APART * rank
    return (2 * (seed * 1_000_000_007 + index) + of_epoch) % 2**32  # as many bits as numpy's seeds have
