"""Kept weights with their columns on GPUs for at most 8 inputs: bound by the bytes of the weight.

A weight of 16 bits and its column are one word, so at 90% sparsity a weight takes 0.4 bytes of 2: the ceiling is 5
times dense. A warp has 32 rows, one for each lane, and walks along them together: what the lanes read of the input at
a time is close together, and nothing is added up across lanes. Rows of such a slice are as long as its longest (a
tenth more words at 90% of 4096 columns).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from torch.nn import functional as F
from triton import language as tl

from sparsify.formats import row_numbers

__all__ = ["MOST", "PLANS", "Plan", "arranged", "index_decode", "multiply"]

MOST = 8  # inputs in a batch
_ROWS = 32


@dataclass(frozen=True)
class Plan:
    """How a product is divided.

    Attributes:
        warps: of a program, which has 32 rows.
        block: groups of four weights of every row that a program loads at a time.
    """

    warps: int = 8
    block: int = 16

    def __str__(self) -> str:
        """Return it in a word, as tables of measurements name it."""
        return f"{self.warps}w{self.block}g"


PLANS = (Plan(), Plan(8, 8), Plan(4, 8), Plan(16, 16), Plan(16, 32))
"""What is worth trying."""


def arranged(values: Tensor, columns: Tensor, offsets: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """Return a weight in slices of 32 rows.

    Args:
        values: in the format `Index`, of 16-bit numbers.
        columns: of each value.
        offsets: of each row the first value.
        inputs: K, less than 65536.

    Returns:
        Words with a value in the upper and its column in the lower 16 bits, `int32[G, 32, 4]`: group of four, row,
        weight; and where the groups of each slice begin, `int32[⌈N / 32⌉ + 1]`. What fills a row up is a zero in
        column K.
    """
    count = values.shape[0]
    lengths = offsets.diff().long()
    slices = -(-lengths.shape[0] // _ROWS)
    longest = F.pad(lengths, (0, slices * _ROWS - lengths.shape[0])).view(slices, _ROWS).amax(1)
    begins = F.pad((-(-longest // 4)).cumsum(0), (1, 0))
    words = torch.full((int(begins[-1]), _ROWS, 4), inputs, dtype=torch.int32, device=values.device)
    rows = row_numbers(offsets, count)
    place = torch.arange(count, device=values.device) - offsets[:-1].long()[rows]
    packed = (values.detach().view(torch.int16).int() << 16) | columns
    words[begins[rows // _ROWS] + place // 4, rows % _ROWS, place % 4] = packed
    return words, begins.int()


@triton.jit
def index_decode(
    x,
    words,
    begins,
    bias,
    out,
    rows,
    batch,
    empty,
    half: tl.constexpr,
    biased: tl.constexpr,
    activation: tl.constexpr,
    most: tl.constexpr,
    block: tl.constexpr,
):
    """Compute 32 rows of the weight for all inputs, which are given transposed, `[K + 1, most]`, the last row zeros."""
    begin, end = tl.load(begins + tl.program_id(0)), tl.load(begins + tl.program_id(0) + 1)
    group = tl.arange(0, block)[:, None, None]
    lane = tl.arange(0, 32)[None, :, None]
    place = tl.arange(0, 4)[None, None, :]
    number = tl.arange(0, most)
    sums = tl.zeros([block, 32, most], tl.float32)
    for first in range(begin, end, block):
        at = ((first + group).to(tl.int64) * 32 + lane) * 4 + place
        word = tl.load(words + at, mask=first + group < end, other=empty)
        if half:
            value = (word >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        else:  # a bfloat16 is the upper half of a float32
            value = (word & -65536).to(tl.float32, bitcast=True)
        given = tl.load(x + (word & 65535)[:, :, :, None] * most + number[None, None, None, :])
        sums += tl.sum(value[:, :, :, None] * given.to(tl.float32), axis=2)
    total = tl.sum(sums, axis=0)
    row = tl.program_id(0) * 32 + tl.arange(0, 32)[:, None]
    if biased:
        total += tl.load(bias + row, mask=row < rows, other=0.0).to(tl.float32)
    total = activate(total, activation)
    target = out + number[None, :].to(tl.int64) * rows + row
    tl.store(target, total.to(out.dtype.element_ty), mask=(row < rows) & (number[None, :] < batch))


@triton.jit
def activate(total, activation: tl.constexpr):
    """Return an activation of what a kernel computed, in float32."""
    if activation == "relu":
        total = tl.where(total < 0, 0.0, total)
    elif activation == "silu":
        total = total / (1 + tl.exp(-total))
    elif activation == "gelu":
        total = 0.5 * total * (1 + tl.erf(total * 0.7071067811865476))
    return total


def multiply(
    x: Tensor, weight: tuple[Tensor, Tensor], rows: int, bias: Tensor | None, activation: str, plan: Plan
) -> Tensor:
    """Return `activation(x Wᵀ + bias)`, `[M, N]`, of an arranged weight; M is at most `MOST`."""
    batch, inputs = x.shape
    most = 1 << (batch - 1).bit_length()
    given = F.pad(x, (0, 1, 0, most - batch)).t().contiguous()
    out = x.new_empty(batch, rows)
    index_decode[(-(-rows // _ROWS),)](
        given, *weight, out if bias is None else bias, out, rows, batch, inputs,
        x.dtype == torch.float16, bias is not None, activation, most, plan.block, num_warps=plan.warps,
    )  # fmt: skip
    return out
