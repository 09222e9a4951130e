"""Where the kept weights of a matrix are, arranged as the CPU kernels read it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["CHUNK", "DAMAGED", "STEP", "Places", "arrange", "arranged"]

STEP = 8  # weights that are multiplied at a time
CHUNK = 64  # rows that a thread takes at a time

DAMAGED = "the stored places do not fit the matrix: the format is damaged, or x has another length"

_KNOWN: dict[int, tuple[int, list[tuple[weakref.ref[Tensor], int]], Places]] = {}  # by the id of a format's tensor


@dataclass(frozen=True)
class Places:
    """Columns of a matrix `[N, K]`, filled up so that rows are whole steps, rows in an order that a processor foresees.

    Of the rows of a chunk those with equally many steps follow each other, because a loop whose length changes from
    row to row costs a mispredicted branch in each. This takes 2 bytes for each kept weight and some 20 for each row;
    from 65535 columns on 4 and some 30.

    Attributes:
        columns: of each weight, in every row up to a whole number of steps and at least one more column, which are `K`;
            `uint16[...]` or, with many columns, `int32[...]`.
        rows: of each row in that order its number, its first value and how many it has, `int32[N, 3]`.
        starts: of each chunk of rows the first column, `int64[⌈N / CHUNK⌉]`.
        kept: how many weights are kept.
    """

    columns: Tensor
    rows: Tensor
    starts: Tensor
    kept: int


def arrange(columns: Tensor, offsets: Tensor, inputs: int) -> Places:
    """Arrange the columns `[E]` of a matrix with so many inputs, whose rows begin at offsets `[N + 1]`."""
    begins, counts = offsets[:-1].long(), offsets.diff().long()
    steps = counts // STEP + 1
    numbers = torch.arange(len(counts))
    order = torch.argsort(numbers // CHUNK * (inputs + 1) + steps)
    ends = (STEP * steps[order]).cumsum(0)
    starts = torch.empty_like(ends)
    starts[order] = ends - STEP * steps[order]
    found = torch.full((int(STEP * steps.sum()),), 2 * inputs, dtype=torch.int32)
    found[(starts - begins).repeat_interleave(counts) + torch.arange(len(columns))] = 2 * columns.int()
    rows = torch.stack([order, begins[order], counts[order]], 1).int()
    narrow = found.to(torch.uint16) if inputs < 1 << 15 else found
    return Places(narrow, rows, starts[order][::CHUNK].contiguous(), len(columns))


def arranged(tensors: Sequence[Tensor], inputs: int, make: Callable[[], Places]) -> Places:
    """Return the places that a format's tensors say, and remember them as long as the tensors live and are unchanged.

    Args:
        tensors: what `make` looks at.
        inputs: how many columns there are.
        make: checks the tensors, because a kernel that believed damaged ones would read anywhere, and arranges them.
    """
    known = _KNOWN.get(id(tensors[0]))
    if known is not None and known[0] == inputs:
        pairs = zip(tensors, known[1], strict=True)
        if all(ref() is value and version == value._version for value, (ref, version) in pairs):
            return known[2]
    places, key = make(), id(tensors[0])
    if not any(value.is_inference() for value in tensors):  # those have no versions
        first = weakref.ref(tensors[0], lambda _: _forget(key))
        others = [weakref.ref(value) for value in tensors[1:]]
        versions = [value._version for value in tensors]
        _KNOWN[key] = inputs, list(zip([first, *others], versions, strict=True)), places
    return places


def _forget(key: int) -> Any:
    _KNOWN.pop(key, None)
