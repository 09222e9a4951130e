"""seeded: values that are not stored but computed again from a 32-bit seed, the same bits on every machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sparsify.kernels._hash import DEVIATION, DISTRIBUTIONS, GOLDEN, MEAN, ROUNDS, words
from sparsify.kernels._linear import operator

__all__ = ["seeded"]

_MASK = 0xFFFFFFFF
_CHUNK = 1 << 15  # counters that stay in a core's cache


@operator
def seeded(
    seed: Tensor,
    stream: int,
    size: Sequence[int],
    distribution: str = "uniform",
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return random values that are a function of seed, stream and place alone.

    The value at place i is made of hash(hash(i ⊕ k₁) + k₂), with keys of the seed and the stream, by integer
    arithmetic, a subtraction that is exact and one rounded product in float32. So it is the same, bit for bit, on every
    machine, and nothing but the seed need be kept.

    Args:
        seed: one integer, of which the lowest 32 bits count.
        stream: which of 2^32 independent sequences.
        size: of the result; at most 2^32 values, for normal 2^30.
        distribution: uniform in [-scale, scale); normal with the deviation `scale`, as the sum of eight uniform numbers
            (it never exceeds 4.9 deviations); sign, which is -scale or scale.
        scale: see there.
        dtype: of the result; float32 is computed, and rounded to it.

    Raises:
        ValueError: there is no such distribution, or the result would be too large.
    """
    count = math.prod(size)
    if distribution not in DISTRIBUTIONS or count * words(distribution) > 1 << 32:
        raise ValueError(f"seeded makes at most 2^32 values that are {', '.join(DISTRIBUTIONS)}, not {count} "
                         f"{distribution}")  # fmt: skip
    keys = _keys(int(seed) & _MASK, stream & _MASK)
    made = _on_cpu if seed.device.type == "cpu" else _on_device
    return made(count, keys, distribution, scale, seed.device).to(dtype).view(list(size))


@torch.library.register_fake("sparsify::seeded")  # type: ignore[untyped-decorator]
def _(
    seed: Tensor,
    stream: int,
    size: Sequence[int],
    distribution: str = "uniform",
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return seed.new_empty(list(size), dtype=dtype)


def _keys(seed: int, stream: int) -> tuple[int, int]:
    first = _mixed(seed ^ _mixed(stream * GOLDEN & _MASK))
    return first, _mixed(first + GOLDEN & _MASK)


def _mixed(value: int) -> int:
    for shift, factor in ROUNDS:
        value = (value ^ value >> shift) * factor & _MASK
    return value


def _on_cpu(count: int, keys: tuple[int, int], distribution: str, scale: float, device: torch.device) -> Tensor:
    """Compute on a CPU, with numpy's unsigned numbers, piece by piece in the cache."""
    found = np.empty(count, np.float32)
    each = words(distribution)
    factor = np.float32(scale / DEVIATION if distribution == "normal" else scale)
    for start, stop in _pieces(count, _CHUNK // each):
        bits = np.arange(start * each, stop * each, dtype=np.uint64).astype(np.uint32)
        for key, add in zip(keys, (False, True), strict=True):
            bits = bits + np.uint32(key) if add else bits ^ np.uint32(key)
            for shift, multiplier in ROUNDS:
                bits ^= bits >> np.uint32(shift)
                bits *= np.uint32(multiplier)
        if distribution == "normal":
            halves = (bits >> np.uint32(16)) + (bits & np.uint32(0xFFFF))
            values = (halves.reshape(-1, each).sum(1).astype(np.int64) - MEAN).astype(np.float32)
        elif distribution == "sign":
            values = 1 - 2 * (bits >> np.uint32(31)).astype(np.float32)
        else:
            values = (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
        np.multiply(values, factor, out=found[start:stop])
    return torch.from_numpy(found)


def _on_device(count: int, keys: tuple[int, int], distribution: str, scale: float, device: torch.device) -> Tensor:
    """Compute with torch's 32-bit integers, whose products keep the lowest bits; right shifts need their signs off."""
    each = words(distribution)
    bits = torch.arange(count * each, device=device).to(torch.int32)
    for key, add in zip(keys, (False, True), strict=True):
        bits = bits + _signed(key) if add else bits ^ _signed(key)
        for shift, multiplier in ROUNDS:
            bits = (bits ^ _shifted(bits, shift)) * _signed(multiplier)
    if distribution == "normal":
        halves = _shifted(bits, 16) + (bits & 0xFFFF)
        values = (halves.view(-1, each).sum(1) - MEAN).float()
        return values * np.float32(scale / DEVIATION).item()
    if distribution == "sign":
        return (1 - 2 * _shifted(bits, 31).float()) * np.float32(scale).item()
    return (_shifted(bits, 8).float() * 2.0**-23 - 1) * np.float32(scale).item()


def _pieces(count: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, count)) for start in range(0, count, size))


def _shifted(bits: Tensor, places: int) -> Tensor:
    return (bits >> places) & ((1 << 32 - places) - 1)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value
