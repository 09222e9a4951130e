"""Nm: at most n of every m consecutive weights of a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.formats import Format, checked

__all__ = ["Nm", "code_bits", "unpacked"]


@dataclass(frozen=True)
class Nm(Format):
    """A matrix with at most `n` weights in every `m` consecutive ones of a row.

    A row of K weights is ⌈K / m⌉ groups, the last one filled up with zeros, and every group stores exactly n weights
    with their places, in ascending order: those that are kept, and where they are fewer, zeros at the first free
    places.

    A place is a code of 1, 2, 4 or 8 bits, the fewest that can count to m. A row's codes lie in bytes, the first one in
    the lowest bits, and the last byte is filled up with zeros. 2:4 in bfloat16 takes 9 bits a weight of 16: 0.5625.

    Attributes:
        values: `[N, ⌈K / m⌉ · n]`.
        codes: `uint8[N, ⌈⌈K / m⌉ · n · bits / 8⌉]`.
        n: how many are stored of a group.
        m: how long a group is, at most 256.
    """

    values: Tensor
    codes: Tensor
    n: int
    m: int

    @classmethod
    def encode(cls, weight: Tensor, mask: Tensor, n: int, m: int) -> Nm:
        """Store what a mask keeps.

        Raises:
            ValueError: the matrix and the mask do not fit, or the mask keeps more than n weights of a group.
        """
        rows, columns = checked(weight, mask)
        if not 0 < n < m <= 256:
            raise ValueError(f"{n}:{m} is no pattern: 0 < n < m <= 256 is needed")
        groups = -(-columns // m)
        kept = F.pad(mask, (0, -columns % m)).view(rows, groups, m)
        most = int(kept.sum(2).max()) if kept.numel() else 0
        if most > n:
            raise ValueError(f"the mask keeps {most} weights of a group of {m}, not at most {n}")
        places = kept.logical_not().to(torch.uint8).argsort(dim=2, stable=True)[:, :, :n].sort(dim=2).values
        inside = F.pad(torch.where(mask, weight.detach(), 0.0), (0, -columns % m))
        values = _as_integers(inside).view(rows, groups, m).gather(2, places).view(rows, groups * n)
        return cls((rows, columns), values.view(weight.dtype), _packed(places.flatten(1), code_bits(m)), n, m)

    def decode(self) -> Tensor:
        """Return the matrix, dense."""
        rows, columns = self.shape
        groups = -(-columns // self.m)
        values, places = (value.view(rows, groups, self.n) for value in (_as_integers(self.values), self.places()))
        dense = values.new_zeros(rows, groups, self.m).scatter_(2, places, values)
        return dense.view(self.values.dtype).view(rows, groups * self.m)[:, :columns].contiguous()

    def places(self) -> Tensor:
        """Return the place of every value in its group, `int64[N, ⌈K / m⌉ · n]`."""
        return unpacked(self.codes, code_bits(self.m), self.values.shape[1])


def code_bits(m: int) -> int:
    """Return how many bits the code of a place in a group of m has: 1, 2, 4 or 8."""
    return next(bits for bits in (1, 2, 4, 8) if m <= 1 << bits)


def _as_integers(value: Tensor) -> Tensor:
    """Return the bits of a tensor: `gather` and `scatter` do not keep those of a NaN in bfloat16."""
    return value.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()])


def _packed(places: Tensor, bits: int) -> Tensor:
    each = 8 // bits
    rows, count = places.shape
    parts = F.pad(places.to(torch.uint8), (0, -count % each)).view(rows, -(-count // each), each)
    return (parts << _shifts(bits, places.device)).sum(2, dtype=torch.uint8)


def unpacked(codes: Tensor, bits: int, count: int) -> Tensor:
    """Return the places that codes of so many bits stand for, `int64[N, count]`."""
    parts = (codes[:, :, None] >> _shifts(bits, codes.device)) & ((1 << bits) - 1)
    return parts.flatten(1)[:, :count].long()


def _shifts(bits: int, device: torch.device) -> Tensor:
    return torch.arange(0, 8, bits, dtype=torch.uint8, device=device)
