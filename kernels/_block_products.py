"""Tiles on GPUs: only those that are stored are read and multiplied, forward and backward.

With a share d of the tiles kept the ceiling is 1 / d times dense, for bytes and for multiplications. One kernel
computes outputs (rows of tiles, the weight on the right) and gradients of inputs (columns of tiles, by an index that
is made once); another the gradient of every tile that is stored, and of no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from triton import language as tl

from sparsify.formats import row_numbers, row_offsets
from sparsify.kernels._activations import activated
from sparsify.kernels._index_decode import activate

__all__ = ["PLANS", "Plan", "block_gradients", "block_products", "gradients", "multiply", "transposed"]


@dataclass(frozen=True)
class Plan:
    """How a product is divided.

    Attributes:
        batch: inputs that a program has.
        warps: of a program.
        stages: of the loop. Where a tile is must be loaded before the tile, which takes two of them: one tile is under
            way with 3, two with 5 on Hopper.
        split: programs that share a row of tiles; their sums are added up afterwards.
    """

    batch: int = 64
    warps: int = 4
    stages: int = 3
    split: int = 1

    def __str__(self) -> str:
        """Return it in a word, as tables of measurements name it."""
        return f"{self.batch}b{self.warps}w{self.stages}s{self.split}p"


PLANS = {
    "few": (Plan(16, 4, 5), Plan(16, 4, 5, 4), Plan(32, 8, 5, 2), Plan(64, 4, 5), Plan(64, 4, 5, 4)),
    "many": (Plan(128, 8), Plan(128, 8, 5), Plan(64, 4, 5)),
}
"""What is worth trying, for batches of up to 64 and for others."""


def transposed(columns: Tensor, offsets: Tensor, across: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the index of tiles by columns: the number of each tile, its row, and of every column the first one."""
    rows = row_numbers(offsets, columns.shape[0])
    order = torch.argsort(columns, stable=True)
    return order.int(), rows[order].int(), row_offsets(torch.bincount(columns, minlength=across))


@triton.jit
def block_products(
    x,
    values,
    order,
    places,
    offsets,
    bias,
    out,
    batch,
    inputs,
    outputs,
    biased: tl.constexpr,
    activation: tl.constexpr,
    ordered: tl.constexpr,
    partial: tl.constexpr,
    split: tl.constexpr,
    tile_batch: tl.constexpr,
    tile_out: tl.constexpr,
    tile_in: tl.constexpr,
    stride_out: tl.constexpr,
    stride_in: tl.constexpr,
):
    """Compute some inputs of one row (or column) of tiles: the sum of the products with its tiles."""
    number = tl.program_id(1) * tile_batch + tl.arange(0, tile_batch)
    begin, end = tl.load(offsets + tl.program_id(0)), tl.load(offsets + tl.program_id(0) + 1)
    share = (end - begin + split - 1) // split
    begin += tl.program_id(2) * share
    end = min(end, begin + share)
    inner, outer = tl.arange(0, tile_in), tl.arange(0, tile_out)
    weight = values + inner[:, None] * stride_in + outer[None, :] * stride_out
    given = x + number[:, None].to(tl.int64) * inputs + inner[None, :]
    total = tl.zeros([tile_batch, tile_out], tl.float32)
    for at in range(begin, end):
        tile = tl.load(order + at) if ordered else tl.cast(at, tl.int32)
        first = tl.load(places + at) * tile_in
        row = tl.load(given + first, mask=(number[:, None] < batch) & (first + inner[None, :] < inputs), other=0.0)
        total = tl.dot(row, tl.load(weight + tile.to(tl.int64) * (tile_in * tile_out)), total, input_precision="ieee")
    output = tl.program_id(0) * tile_out + outer
    if biased:
        total += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)[None, :]
    total = activate(total, activation)
    target = out + number[:, None].to(tl.int64) * outputs + output[None, :]
    if partial:
        target += tl.program_id(2).to(tl.int64) * batch * outputs
    inside = (number[:, None] < batch) & (output[None, :] < outputs)
    tl.store(target, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def block_gradients(
    upstream,
    x,
    rows,
    columns,
    out,
    batch,
    inputs,
    outputs,
    tile_batch: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
):
    """Compute the gradient of one tile: a product over the whole batch."""
    tile = tl.program_id(0)
    output = tl.load(rows + tile) * height + tl.arange(0, height)
    input_ = tl.load(columns + tile) * width + tl.arange(0, width)
    total = tl.zeros([height, width], tl.float32)
    for first in range(0, batch, tile_batch):
        number = first + tl.arange(0, tile_batch)
        left = upstream + number[None, :].to(tl.int64) * outputs + output[:, None]
        right = x + number[:, None].to(tl.int64) * inputs + input_[None, :]
        g = tl.load(left, mask=(number[None, :] < batch) & (output[:, None] < outputs), other=0.0)
        given = tl.load(right, mask=(number[:, None] < batch) & (input_[None, :] < inputs), other=0.0)
        total = tl.dot(g, given, total, input_precision="ieee")
    target = out + tile.to(tl.int64) * (height * width) + tl.arange(0, height)[:, None] * width
    tl.store(target + tl.arange(0, width)[None, :], total.to(out.dtype.element_ty))


def multiply(
    x: Tensor, values: Tensor, index: tuple[Tensor | None, Tensor, Tensor], outputs: int, bias: Tensor | None,
    activation: str, plan: Plan, *, backward: bool = False,
) -> Tensor:  # fmt: skip
    """Return `activation(x Wᵀ + bias)`, or with `backward` `x W`, for a weight of tiles.

    Args:
        x: `[M, K]`, or `[M, N]` with `backward`.
        values: the tiles, `[T, rows, columns]`, of at least 16 rows and columns that are powers of two.
        index: the numbers of the tiles, None if they are in order; which column (row) each is in; of every row (column)
            the first one.
        outputs: N, or K with `backward`.
        bias: `[N]`.
        activation: none, relu, gelu or silu.
        plan: how to divide it.
        backward: multiply with the weight itself.
    """
    order, places, offsets = index
    height, width = values.shape[1:]
    batch, inputs = x.shape
    partial = plan.split > 1
    out = x.new_empty((plan.split, batch, outputs), dtype=torch.float32) if partial else x.new_empty(batch, outputs)
    biased = bias is not None and not partial
    strides = (1, width) if backward else (width, 1)
    tile = (width, height) if backward else (height, width)
    block_products[(offsets.shape[0] - 1, -(-batch // plan.batch), plan.split)](
        x, values, places if order is None else order, places, offsets, bias if biased else out, out,
        batch, inputs, outputs, biased, "none" if partial else activation, order is not None, partial, plan.split,
        plan.batch, *tile, *strides, num_warps=plan.warps, num_stages=plan.stages,
    )  # fmt: skip
    if not partial:
        return out
    total = out.sum(0)
    return activated(total if bias is None else total + bias, activation).to(x.dtype)


def gradients(upstream: Tensor, x: Tensor, rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """Return the gradients of all tiles, `[T, height, width]`, from `[M, N]` and `[M, K]`."""
    out = x.new_empty(columns.shape[0], height, width)
    if not out.shape[0]:
        return out
    block_gradients[(out.shape[0],)](
        upstream, x, rows, columns, out, x.shape[0], x.shape[1], upstream.shape[1], 64, height, width,
        num_warps=8 if height * width >= 128 * 64 else 4, num_stages=3,
    )  # fmt: skip
    return out
