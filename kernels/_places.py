"""Where the kept weights of a matrix are, arranged as the CPU kernels read it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.formats import row_numbers

__all__ = ["CHUNK", "DAMAGED", "STEP", "Places", "arrange", "check_places"]

STEP = 8  # weights that are multiplied at a time
CHUNK = 64  # rows that a thread takes at a time
BLOCK = 2048  # columns that are worked on at a time
PIECE = 32  # weights that a row should have in a block, or there are fewer blocks

DAMAGED = "the stored places do not fit the matrix: the format is damaged, or x has another length"


@dataclass(frozen=True)
class Places:
    """Columns of a matrix `[N, K]`, filled up so that rows are whole steps, rows in an order that a processor foresees.

    Of the rows of a chunk those with equally many steps follow each other, because a loop whose length changes from
    row to row costs a mispredicted branch in each. This takes 2 bytes for each kept weight and some 25 for each row in
    a block; from 32768 columns on 4 and some 35.

    Attributes:
        columns: of each weight, twice the number, as addresses want it; behind each row one to `STEP` more, which are
            `K`, up to a whole number of steps; `uint16[...]` or, with many columns, `int32[...]`.
        pieces: of each piece of a row in that order, block by block in a chunk, the row's number, the first value, the
            whole steps and what is left, `int32[N · blocks, 4]`.
        starts: of each chunk of rows the first column, `int64[⌈N / CHUNK⌉]`.
        outputs: N.
        kept: how many weights are kept.
        blocks: of columns, one after the other for a chunk of rows: what is read of x stays in the nearest cache.
    """

    columns: Tensor
    pieces: Tensor
    starts: Tensor
    outputs: int
    kept: int
    blocks: int

    @functools.cached_property
    def addresses(self) -> tuple[int, int, int]:
        """Where columns, pieces and starts are."""
        return self.columns.data_ptr(), self.pieces.data_ptr(), self.starts.data_ptr()


def check_places(columns: Tensor, offsets: Tensor, inputs: int) -> None:
    """Refuse columns `int32[E]` outside of a matrix with so many inputs, and offsets `[N + 1]` that are not theirs.

    Raises:
        ValueError: the format is damaged, or x has another length.
    """
    ends = offsets[0] == 0 and offsets[-1] == len(columns) and (offsets.diff() >= 0).all()
    inside = not len(columns) or (columns.min() >= 0 and columns.max() < inputs)
    if not (columns.dtype == torch.int32 and ends and inside):
        raise ValueError(DAMAGED)


def arrange(columns: Tensor, offsets: Tensor, inputs: int) -> Places:
    """Arrange the columns `[E]` of a matrix with so many inputs, whose rows begin at offsets `[N + 1]`."""
    outputs, kept = len(offsets) - 1, len(columns)
    blocks = max(1, min(-(-inputs // BLOCK), kept // max(1, PIECE * outputs)))
    row = row_numbers(offsets, kept)
    piece = row * blocks + columns.long() * blocks // max(1, inputs)  # a piece is what a row has in a block
    if (piece.diff() < 0).any():  # nobody promised that columns ascend
        blocks, piece = 1, row
    counts = torch.bincount(piece, minlength=outputs * blocks)
    begins, steps = counts.cumsum(0) - counts, counts // STEP + 1
    rows = torch.arange(outputs, device=offsets.device).repeat_interleave(blocks)
    block = torch.arange(blocks, device=offsets.device).repeat(outputs)
    order = torch.argsort((rows // CHUNK * blocks + block) * (inputs + 1) + steps)
    ends = (STEP * steps[order]).cumsum(0)
    starts = torch.empty_like(ends)
    starts[order] = ends - STEP * steps[order]
    found = columns.new_full((int(STEP * steps.sum()),), 2 * inputs, dtype=torch.int32)
    found[(starts - begins)[piece] + torch.arange(kept, device=offsets.device)] = 2 * columns.int()
    narrow = found.to(torch.uint16) if inputs < 1 << 15 else found
    pieces = torch.stack([rows, begins, counts // STEP, counts % STEP], 1)[order].int()
    first = starts[order][:: CHUNK * blocks].contiguous()
    return Places(narrow, pieces, first, outputs, kept, blocks)
