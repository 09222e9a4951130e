"""Index: the weights that are kept with their columns, row by row (CSR)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparsify.formats import Format, checked, row_numbers, row_offsets

__all__ = ["Index"]


@dataclass(frozen=True)
class Index(Format):
    """A matrix as the weights that are kept and their columns; the usual name is compressed sparse row (CSR).

    Attributes:
        values: what is kept, row by row, `[E]`.
        columns: of each, `int32[E]`, ascending in a row.
        offsets: of every row the first value, `int32[N + 1]`.
    """

    values: Tensor
    columns: Tensor
    offsets: Tensor

    @classmethod
    def encode(cls, weight: Tensor, mask: Tensor) -> Index:
        """Store what a mask keeps.

        Raises:
            ValueError: the matrix and the mask do not fit.
        """
        shape = checked(weight, mask)
        offsets = row_offsets(mask.sum(1))
        return cls(shape, weight.detach()[mask], mask.nonzero()[:, 1].int(), offsets)

    def decode(self) -> Tensor:
        """Return the matrix, dense."""
        dense = self.values.new_zeros(self.shape)
        dense[self.rows(), self.columns.long()] = self.values
        return dense

    def rows(self) -> Tensor:
        """Return which row each value is in, `int64[E]`."""
        return row_numbers(self.offsets, len(self.columns))
