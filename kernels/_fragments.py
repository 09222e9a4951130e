"""Tensor-core products in fragment order: what the decoding kernels for GPUs share.

`mma` instructions hold a 16 x k tile of the weight (operand A), a k x 8 tile of the transposed input (B) and a 16 x 8
tile of sums (C) in registers of a warp. Here a tensor has one element for each register: its last dimension counts the
four registers of a lane, the one before the lanes, so that an instruction is an elementwise operation on such tensors,
and a weight that was stored in this order goes from memory to the instruction without a shuffle or shared memory. The
dimensions are

    [warps along rows, warps along inputs, row tiles, batch tiles, steps, 32 lanes, 4 registers]

and those of size one are broadcast: a tile of the weight serves all batch tiles, one of the input all row tiles. The
input is staged through shared memory, from where `ldmatrix` brings it into this order.

Lane `4 g + t` (g < 8, t < 4) holds in register r of

    A   rows g + 8 (r mod 2), columns 2 t, 2 t + 1 of half r div 2 (of what is stored: half the columns if 2:4)
    B   columns 2 t + 8 r, 2 t + 8 r + 1 of the input g
    C   row g + 8 (r div 2), input 2 t + r mod 2

Reference: PTX ISA, Warp-level matrix instructions: mma and mma.sp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy

from sparsify.kernels._activations import activated

__all__ = [
    "KINDS",
    "MOST",
    "Plan",
    "accumulate",
    "accumulate_sparse",
    "batch_tiles",
    "finish",
    "fragments",
    "launch",
    "place",
    "stage",
]

KINDS = {torch.bfloat16: "bf16", torch.float16: "f16"}
MOST = 64  # inputs in a batch


@dataclass(frozen=True)
class Plan:
    """How a product is divided.

    Attributes:
        row_warps: warps side by side along the rows of the weight.
        inner_warps: warps that share a row's inputs and add up what they have.
        row_tiles: tiles of 16 rows for each warp.
        steps: that a warp loads at a time.
        split: programs that share a row's inputs; their sums are added up afterwards.
    """

    row_warps: int = 1
    inner_warps: int = 8
    row_tiles: int = 1
    steps: int = 2
    split: int = 1

    @property
    def warps(self) -> int:
        """How many warps a program has."""
        return self.row_warps * self.inner_warps

    @property
    def rows(self) -> int:
        """How many rows of the weight a program has."""
        return 16 * self.row_warps * self.row_tiles

    def __str__(self) -> str:
        """Return it in a word, as tables of measurements name it."""
        return f"{self.row_warps}x{self.inner_warps}w{self.row_tiles}r{self.steps}s{self.split}p"


def batch_tiles(batch: int) -> int:
    """Return how many tiles of 8 inputs a batch of at most 64 takes: 1, 2, 4 or 8."""
    return 1 << max(0, (-(-batch // 8) - 1).bit_length())


@gluon.constexpr_function
def fragments(row_warps, inner_warps):
    """Return the layout of tensors in fragment order."""
    return gl.BlockedLayout([1] * 6 + [4], [1] * 5 + [32, 1], [row_warps, inner_warps] + [1] * 5, list(range(7))[::-1])


@gluon.constexpr_function
def _bits(size, step, dim):
    """Return the bases of a range of `size` places, `step` apart, along one of two dimensions."""
    return [[step << bit, 0] if dim == 0 else [0, step << bit] for bit in range(size.bit_length() - 1)]


@gluon.constexpr_function
def staged(row_warps, inner_warps, tiles, steps, halves):
    """Return where the elements of staged inputs, `[8 tiles, words]`, must go to be B: what `_in_order` then names."""
    return gl.DistributedLinearLayout(
        reg_bases=_bits(4, 4, 1) + _bits(halves, 16, 1) + _bits(steps, 16 * halves, 1) + _bits(tiles, 8, 0),
        lane_bases=_bits(4, 1, 1) + _bits(8, 1, 0),
        warp_bases=_bits(inner_warps, 16 * halves * steps, 1) + [[0, 0]] * (row_warps.bit_length() - 1),
        block_bases=[],
        shape=[8 * tiles, 16 * halves * steps * inner_warps],
    )


@gluon.constexpr_function
def _along(dim, rank, layout):
    for other in range(rank - 1, -1, -1):
        layout = layout if other == dim else gl.SliceLayout(other, layout)
    return layout


@gluon.jit
def place(dim: gl.constexpr, size: gl.constexpr, rank: gl.constexpr, layout: gl.constexpr):
    """Return the places along one dimension, of size one along all others."""
    found = gl.arange(0, size, _along(dim, rank, layout))
    for other in gl.static_range(rank):
        if other != dim:
            found = gl.expand_dims(found, other)
    return found


@gluon.jit
def stage(buffer, x, first, batch, words, tiles: gl.constexpr, width: gl.constexpr, warps: gl.constexpr):
    """Begin to copy the words `first` to `first + width` of all inputs into shared memory; beyond the end are zeros."""
    across: gl.constexpr = min(32, width // 4)
    layout: gl.constexpr = gl.BlockedLayout([1, 4], [32 // across, across], [warps, 1], [1, 0])
    row = gl.expand_dims(gl.arange(0, 8 * tiles, gl.SliceLayout(1, layout)), 1)
    word = first + gl.expand_dims(gl.arange(0, width, gl.SliceLayout(0, layout)), 0)
    async_copy.async_copy_global_to_shared(buffer, x + row * words + word, (row < batch) & (word < words))
    async_copy.commit_group()


@gluon.jit
def _in_order(
    buffer,
    row_warps: gl.constexpr,
    inner_warps: gl.constexpr,
    tiles: gl.constexpr,
    steps: gl.constexpr,
    halves: gl.constexpr,
):
    """Return staged inputs as B, with the halves of a step as the last dimension."""
    here = buffer.load(staged(row_warps, inner_warps, tiles, steps, halves))
    here = here.reshape([tiles, 8, inner_warps, steps, halves, 4, 4]).permute([2, 0, 3, 1, 6, 5, 4])
    return here.reshape([1, inner_warps, 1, tiles, steps, 32, 4, halves])


@gluon.constexpr_function
def _instruction(name, kind, operands):
    """Return a product of tensor cores; `$` numbers are the results, then the arguments, four registers each."""
    return f"{name}.row.col.f32.{kind}.{kind}.f32 {{$0, $1, $2, $3}}, {{$4, $5, $6, $7}}, {operands};"


@gluon.jit
def accumulate(
    c,
    a0,
    a1,
    buffer,
    kind: gl.constexpr,
    row_warps: gl.constexpr,
    inner_warps: gl.constexpr,
    tiles: gl.constexpr,
    steps: gl.constexpr,
):
    """Return the sums with the products of two halves of a weight added, each with 16 columns.

    Args:
        c: the sums.
        a0: first half of the weight of every step, four registers of two 16-bit numbers.
        a1: the second half.
        buffer: the staged inputs of these steps.
        kind: of the numbers: bf16 or f16.
        row_warps: as in the plan.
        inner_warps: as in the plan.
        tiles: of the batch.
        steps: as in the plan.
    """
    layout: gl.constexpr = fragments(row_warps, inner_warps)
    name: gl.constexpr = "mma.sync.aligned.m16n8k16"
    first: gl.constexpr = _instruction(name, kind, "{$8, $9}, {$12, $13, $14, $15}")
    second: gl.constexpr = _instruction(name, kind, "{$10, $11}, {$12, $13, $14, $15}")
    registers: gl.constexpr = "=f,=f,=f,=f,r,r,r,r,r,r,r,r,f,f,f,f"
    both = _in_order(buffer, row_warps, inner_warps, tiles, steps, 1)
    b = gl.convert_layout(both.reshape([1, inner_warps, 1, tiles, steps, 32, 4]), layout)
    c = gl.inline_asm_elementwise(first, registers, [a0, b, c], dtype=gl.float32, is_pure=True, pack=4)
    return gl.inline_asm_elementwise(second, registers, [a1, b, c], dtype=gl.float32, is_pure=True, pack=4)


@gluon.jit
def accumulate_sparse(
    c,
    a0,
    a1,
    places,
    buffer,
    kind: gl.constexpr,
    row_warps: gl.constexpr,
    inner_warps: gl.constexpr,
    tiles: gl.constexpr,
    steps: gl.constexpr,
):
    """Return the same for a weight of which two of four are stored: its halves have 32 columns, `places` says which."""
    layout: gl.constexpr = fragments(row_warps, inner_warps)
    name: gl.constexpr = "mma.sp::ordered_metadata.sync.aligned.m16n8k32"
    first: gl.constexpr = _instruction(name, kind, "{$8, $9, $10, $11}, {$16, $17, $18, $19}, $12, 0x0")
    second: gl.constexpr = _instruction(name, kind, "{$8, $9, $10, $11}, {$16, $17, $18, $19}, $12, 0x1")
    registers: gl.constexpr = "=f,=f,=f,=f,r,r,r,r,r,r,r,r,r,r,r,r,f,f,f,f"
    left, right = gl.split(_in_order(buffer, row_warps, inner_warps, tiles, steps, 2))
    b0, b1 = gl.convert_layout(left, layout), gl.convert_layout(right, layout)
    c = gl.inline_asm_elementwise(first, registers, [a0, b0, places, c], dtype=gl.float32, is_pure=True, pack=4)
    return gl.inline_asm_elementwise(second, registers, [a1, b1, places, c], dtype=gl.float32, is_pure=True, pack=4)


@gluon.jit
def finish(
    c,
    first,
    bias,
    out,
    batch,
    rows,
    biased: gl.constexpr,
    activation: gl.constexpr,
    partial: gl.constexpr,
    row_warps: gl.constexpr,
    inner_warps: gl.constexpr,
    row_tiles: gl.constexpr,
    tiles: gl.constexpr,
):
    """Add up what the warps of a row have, and write it; with bias and activation unless it is only a part."""
    layout: gl.constexpr = gl.SliceLayout(1, gl.SliceLayout(4, fragments(row_warps, inner_warps)))
    total = gl.sum(gl.sum(c, 4), 1)  # [row warps, row tiles, batch tiles, lanes, registers]
    lane, register = place(3, 32, 5, layout), place(4, 4, 5, layout)
    tile = first + place(0, row_warps, 5, layout) * row_tiles + place(1, row_tiles, 5, layout)
    row = tile * 16 + lane // 4 + register // 2 * 8
    number = place(2, tiles, 5, layout) * 8 + lane % 4 * 2 + register % 2
    if biased:
        total += gl.load(bias + row, row < rows, 0.0).to(gl.float32)
    if activation == "relu":
        total = gl.where(total < 0, 0.0, total)
    elif activation == "silu":
        total = total / (1 + gl.exp(-total))
    elif activation == "gelu":
        total = 0.5 * total * (1 + gl.erf(total * 0.7071067811865476))
    target = out + number.to(gl.int64) * rows + row
    if partial:
        target += gl.program_id(1).to(gl.int64) * batch * rows
    gl.store(target, total.to(out.dtype.element_ty), (row < rows) & (number < batch))


def launch(
    kernel: Any, x: Tensor, weight: tuple[Tensor, ...], rows: int, steps: int, bias: Tensor | None, activation: str,
    plan: Plan,
) -> Tensor:  # fmt: skip
    """Return `activation(x Wᵀ + bias)`, `[M, N]`, of a kernel that takes a weight in fragment order.

    Args:
        kernel: `nm_decode` or `bitmask_decode`.
        x: `[M, K]`, M at most `MOST`, of 16-bit numbers.
        weight: what the kernel takes of it.
        rows: N.
        steps: of the weight, in all.
        bias: `[N]`.
        activation: none, relu, gelu or silu.
        plan: how to divide it.
    """
    batch = x.shape[0]
    aligned = F.pad(x, (0, -x.shape[1] % 8)) if x.shape[1] % 8 else x  # rows begin at multiples of 16 bytes
    given = aligned.contiguous().view(torch.int32)
    partial = plan.split > 1
    out = x.new_empty((plan.split, batch, rows), dtype=torch.float32) if partial else x.new_empty(batch, rows)
    biased = bias is not None and not partial
    kernel[(-(-rows // plan.rows), plan.split)](
        given, *weight, bias if biased else out, out, batch, rows, given.shape[1], steps,
        -(-steps // (plan.steps * plan.inner_warps * plan.split)),
        KINDS[x.dtype], biased, "none" if partial else activation, partial,
        plan.row_warps, plan.inner_warps, plan.row_tiles, batch_tiles(batch), plan.steps,
        num_warps=plan.warps,
    )  # fmt: skip
    if not partial:
        return out
    total = out.sum(0)
    return activated(total if bias is None else total + bias, activation).to(x.dtype)
