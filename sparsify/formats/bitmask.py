"""Bitmask: one bit for every weight, and the weights that are kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from sparsify.coding import bits
from sparsify.formats import Format, checked, row_offsets

__all__ = ["Bitmask"]


@dataclass(frozen=True)
class Bitmask(Format):
    """A matrix as the bits of its mask and the weights that it keeps; at a third kept the smallest format.

    Attributes:
        values: what is kept, row by row, `[E]`.
        bits: `uint8[N, ⌈K / 8⌉]`; the first weight of a row is the lowest bit of its first byte.
        offsets: of every row the first value, `int32[N + 1]`.
    """

    values: Tensor
    bits: Tensor
    offsets: Tensor

    @classmethod
    def encode(cls, weight: Tensor, mask: Tensor) -> Bitmask:
        """Store what a mask keeps.

        Raises:
            ValueError: the matrix and the mask do not fit.
        """
        shape = checked(weight, mask)
        padded = F.pad(mask, (0, -shape[1] % 8))
        packed = bits.packed(padded).view(shape[0], -(-shape[1] // 8))
        offsets = row_offsets(mask.sum(1))
        return cls(shape, weight.detach()[mask], packed, offsets)

    def decode(self) -> Tensor:
        """Return the matrix, dense."""
        dense = self.values.new_zeros(self.shape)
        dense[self.mask()] = self.values
        return dense

    def mask(self) -> Tensor:
        """Return which weights are kept, `bool[N, K]`."""
        rows, columns = self.shape
        return bits.unpacked(self.bits.flatten(), (rows, 8 * self.bits.shape[1]))[:, :columns].contiguous()
