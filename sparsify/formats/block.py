"""BlockRows: the tiles of a matrix that are not empty, row by row (BSR)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.formats import Format, checked, row_numbers, row_offsets

__all__ = ["BlockRows"]


@dataclass(frozen=True)
class BlockRows(Format):
    """A matrix of tiles of which most are empty; the usual name is block sparse row (BSR).

    A tile is stored when the mask keeps anything of it; what the mask does not keep is zero in it, as is what lies
    beyond the edge of the matrix. Tiles lie row by row, from left to right.

    Attributes:
        values: the tiles, `[T, rows, columns]`.
        columns: which column of tiles each is in, `int32[T]`.
        offsets: of every row of tiles the first one, `int32[⌈N / rows⌉ + 1]`.
    """

    values: Tensor
    columns: Tensor
    offsets: Tensor

    @classmethod
    def encode(cls, weight: Tensor, mask: Tensor, rows: int, columns: int) -> BlockRows:
        """Store the tiles of which a mask keeps anything.

        Raises:
            ValueError: the matrix and the mask do not fit, or a tile has no row or no column.
        """
        shape = checked(weight, mask)
        if min(rows, columns) < 1:
            raise ValueError(f"a tile of {rows} by {columns} is empty")
        grid = _tiles(mask, rows, columns).flatten(2).any(2)
        values = _tiles(torch.where(mask, weight.detach(), 0.0), rows, columns)[grid]
        offsets = row_offsets(grid.sum(1))
        return cls(shape, values, grid.nonzero()[:, 1].int(), offsets)

    def decode(self) -> Tensor:
        """Return the matrix, dense."""
        rows, columns = self.values.shape[1:]
        down, across = -(-self.shape[0] // rows), -(-self.shape[1] // columns)
        dense = self.values.new_zeros(down, across, rows, columns)
        dense[self.rows(), self.columns.long()] = self.values
        return (
            dense.transpose(1, 2).reshape(down * rows, across * columns)[: self.shape[0], : self.shape[1]].contiguous()
        )

    def rows(self) -> Tensor:
        """Return which row of tiles each tile is in, `int64[T]`."""
        return row_numbers(self.offsets, len(self.columns))


def _tiles(value: Tensor, rows: int, columns: int) -> Tensor:
    """Return a matrix as `[tiles down, tiles across, rows, columns]`."""
    padded = F.pad(value, (0, -value.shape[1] % columns, 0, -value.shape[0] % rows))
    return padded.view(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).transpose(1, 2)
