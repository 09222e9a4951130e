"""Bits: masks as one bit for each weight, eight to a byte."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BITMASK", "equal_bits", "packed", "unpacked"]

BITMASK = ".bitmask"  # what the name of a weight ends with where a file holds its mask


def equal_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape, type and bits: a NaN equals itself, -0.0 is not 0.0."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (value.cpu().contiguous().reshape(-1).view(torch.uint8) for value in (one, other))
    return torch.equal(first, second)


def packed(mask: Tensor) -> Tensor:
    """Return booleans of any shape as bytes `uint8[⌈n / 8⌉]`; the first one is the lowest bit of the first byte."""
    flat = mask.reshape(-1)
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(torch.uint8).view(-1, 8)
    return (flat << torch.arange(8, dtype=torch.uint8, device=flat.device)).sum(1, dtype=torch.uint8)


def unpacked(bits: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the booleans of a shape that `packed` turned into bytes.

    Raises:
        ValueError: there are more or fewer bytes than the shape needs, or a bit behind the last one is set.
    """
    count = math.prod(shape)
    if bits.dtype != torch.uint8 or bits.shape != (-(-count // 8),):
        raise ValueError(f"{bits.dtype}{list(bits.shape)} are not the bits of {list(shape)}")
    found = (bits[:, None] >> torch.arange(8, dtype=torch.uint8, device=bits.device)) & 1
    flat = found.view(-1).bool()
    if bool(flat[count:].any()):
        raise ValueError(f"there are bits behind the last of {list(shape)}")
    return flat[:count].view(tuple(shape))
