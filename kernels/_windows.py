"""The kept weights of a matrix, arranged so that the columns they multiply lie in two registers.

Sixteen rows are lanes of a vector. A step takes at most one weight from each of them, and all of its columns lie in a
window of 32 numbers of x, which two registers hold: one instruction (`vpermi2ps` of AVX-512) picks sixteen of them.
Nothing is gathered from memory, and a lane that has no weight in a window waits, with a zero as its value.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.kernels._places import DAMAGED

__all__ = ["ALIGNED", "LANES", "STEPS", "WINDOWS", "Windows", "arrange_windows"]

LANES = 16
WINDOWS = 3  # of a round
STEPS = 6  # of a round, equally many in each window: six numbers of 5 bits are what a lane of 32 bits holds
ALIGNED = 16  # numbers from one possible window to the next: a line of the cache
_WORTH = 0.25  # share of the places taken from which on this is the faster way (of kernels/_places.py)
_SORTED = 0.95  # rounds in another order of rows, as a share, for which it is worth writing to rows all over the place


@dataclass(frozen=True)
class Windows:
    """Kept weights of a matrix `[N, K]` in rounds of six steps, slice by slice of sixteen rows.

    It takes 4.7 bytes for each place, of which 40 to 85% are taken at random sparsities from 95 to 70%.

    Attributes:
        values: `float32[R, STEPS, LANES]`; zero where no weight is.
        codes: five bits for each step, the first ones lowest: the column in its window, `int32[R, LANES]`.
        bases: of each window the first column, divided by `ALIGNED`, `uint16[R, WINDOWS]`.
        starts: of each slice the first round, and the end of the last one, `int64[⌈N / LANES⌉ + 1]`.
        order: the rows as they come, or nothing if they come as they are, `int32[N or 0]`.
        outputs: N.
    """

    values: Tensor
    codes: Tensor
    bases: Tensor
    starts: Tensor
    order: Tensor
    outputs: int

    @functools.cached_property
    def addresses(self) -> tuple[int, int, int, int, int]:
        """Where values, codes, bases, starts and the order, if there is one, are."""
        found = (self.values, self.codes, self.bases, self.starts, self.order)
        return tuple(tensor.data_ptr() if len(tensor) else 0 for tensor in found)  # type: ignore[return-value]

    @functools.cached_property
    def steps(self) -> int:
        """Of all rounds together."""
        return STEPS * len(self.codes)


def arrange_windows(values: Tensor, columns: Tensor, offsets: Tensor, inputs: int) -> Windows | None:
    """Arrange values and columns `[E]` of a matrix with so many inputs, whose rows begin at offsets `[N + 1]`.

    Returns:
        Nothing where this is not worth it, because too few places would be taken: at sparsities above 98%, or where
        columns do not ascend; and for a matrix of more than a million columns.

    Raises:
        ValueError: there are more or fewer values than columns.
    """
    if values.shape != columns.shape:
        raise ValueError(DAMAGED)
    from sparsify.kernels._window_rounds import schedule  # numba takes long to import

    last = -(-inputs // ALIGNED) - 2  # the last window; x is filled up for it
    if last >= 1 << 16:
        return None
    places = columns.int().numpy(), offsets.long().numpy(), max(0, last)
    counts = offsets.diff()
    order = torch.arange(len(counts), dtype=torch.int32)
    other = torch.argsort(counts, stable=True).int()
    nothing = [array.numpy() for array in _arrays(0, 0)]
    rounds, fewer = (schedule(*places, rows.numpy(), values.numpy(), *nothing, False) for rows in (order, other))
    resorted = fewer < _SORTED * rounds
    if resorted:
        rounds, order = fewer, other
    if len(columns) < _WORTH * LANES * STEPS * rounds or not rounds:
        return None
    found = _arrays(rounds, -(-len(counts) // LANES))
    schedule(*places, order.numpy(), values.numpy(), *(array.numpy() for array in found), True)
    return Windows(*found, order if resorted else order[:0], len(counts))


def _arrays(rounds: int, slices: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return values, codes, bases and starts, all zero."""
    return (
        torch.zeros(rounds, STEPS, LANES),
        torch.zeros(rounds, LANES, dtype=torch.int32),
        torch.zeros(rounds, WINDOWS, dtype=torch.uint16),
        torch.zeros(slices + 1, dtype=torch.int64),
    )
