"""Weights with single zeros on GPUs for small batches: bound by the bytes of the weight, if decoding is cheap enough.

The format `Bitmask` has a bit for each weight and takes the fewest bytes, but a count of bits, an address and a load
for every weight cost more instructions (9 to 11 for each dense weight, as compiled) than the memory leaves time for.
So two neighbours share a bit, and are kept together if either is: what is loaded is a register of the tensor core,
and all takes 5 to 6. At 70% sparsity 51% of pairs are kept, which is 1.11 bytes of 2 for each weight: the ceiling is
1.8 times dense; at 80% 2.5, at 90% 4.4.

A lane has eight pairs of a step of 16 x 32 weights: a byte of the word that its group of four lanes reads. Its pairs
begin where those of the lanes before it end, and follow each other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy

from sparsify.kernels._fragments import Plan, accumulate, finish, fragments, place, stage

__all__ = ["PLANS", "arranged", "bitmask_decode"]

PLANS = {
    1: (Plan(), Plan(steps=4), Plan(inner_warps=16), Plan(inner_warps=4, row_tiles=2), Plan(split=2), Plan(split=4)),
    2: (Plan(), Plan(inner_warps=16), Plan(inner_warps=4, row_tiles=2), Plan(split=2), Plan(split=4)),
}
"""What is worth trying, by the number of batch tiles; the first of each fits the shared memory of any GPU since 8.0."""


def arranged(kept: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a weight and its mask in fragment order, rows filled up to 16 and columns to 32.

    Args:
        kept: `bool[N, K]`.
        weight: `[N, K]`, of 16-bit numbers, zero where it is not kept.

    Returns:
        Pairs in the order of the lanes, `int32[P]`; bits as `int32[⌈N / 16⌉, ⌈K / 32⌉, 8]`, where byte t of word g is
        of lane 4 g + t, and bit 4 h + r of register r of half h; how many pairs of the step come before each word,
        `uint8` of that shape; and where the pairs of each step begin, `int32[⌈N / 16⌉, ⌈K / 32⌉]`.
    """
    rows, inputs = weight.shape
    tiles, steps = -(-rows // 16), -(-inputs // 32)
    beyond = (0, 32 * steps - inputs, 0, 16 * tiles - rows)
    order = (0, 3, 2, 6, 4, 5, 1, 7)  # tile, step, g, t, half, +8 columns, +8 rows, pair
    mask, whole = (
        F.pad(value, beyond).view(tiles, 2, 8, steps, 2, 2, 4, 2).permute(order).reshape(-1, 8, 4, 8, 2)
        for value in (kept, weight.detach())
    )
    pairs = mask.any(4)
    bits = (pairs << torch.arange(8, device=mask.device)).sum(3).to(torch.uint8).view(torch.int32)
    counts = pairs.flatten(2).sum(2)
    before = (counts.cumsum(1) - counts).to(torch.uint8)
    in_steps = counts.sum(1)
    begin = (in_steps.cumsum(0) - in_steps).int()
    shape = (tiles, steps)
    return (
        _unbroken(whole[pairs].view(torch.int32).flatten()),
        bits.view(*shape, 8),
        before.view(*shape, 8),
        begin.view(shape),
    )


def _unbroken(value: Tensor) -> Tensor:
    """Return a tensor whose addresses differ in their lower 32 bits only: the kernel counts in these."""
    if value.data_ptr() >> 32 == (value.data_ptr() + value.nbytes) >> 32:
        return value
    twice = value.new_empty(2 * value.numel() + 1)
    left = (-twice.data_ptr() % (1 << 32)) // value.element_size()
    part = twice[: value.numel()] if left > value.numel() else twice[left : left + value.numel()]
    return part.copy_(value)


@gluon.constexpr_function
def _unpacking():
    """Return the instructions that load a lane's eight registers in turn, zeros where there is no pair."""
    lines = [".reg .pred p;", ".reg .b32 t, low, high;", ".reg .b64 a;", "mov.b64 {low, high}, $8;"]
    for bit in range(8):
        lines += [
            f"and.b32 t, $9, {1 << bit};",
            "setp.ne.u32 p, t, 0;",
            f"mov.b32 ${bit}, 0;",
            "mov.b64 a, {low, high};",
            f"@p ld.global.b32 ${bit}, [a];",
            "@p add.u32 low, low, 4;",  # no carry: `_unbroken`
        ]
    return "{" + " ".join(lines) + "}"


@gluon.jit
def _bits_of(bits, before, begin, lane, inside):
    """Load a step's words, and where the pairs of each lane begin."""
    word = gl.load(bits + lane // 4, inside, 0)
    shift = lane % 4 * 8
    earlier = gl.inline_asm_elementwise(
        "popc.b32 $0, $1;", "=r,r", [word & ((1 << shift) - 1)], dtype=gl.int32, is_pure=True, pack=1
    )
    first = gl.load(begin, inside, 0) + gl.load(before + lane // 4, inside, 0).to(gl.int32)
    return word >> shift, first + earlier


@gluon.jit
def _pairs_of(pairs, mine, first, layout: gl.constexpr):
    """Load the two halves of a step, four registers of each lane."""
    kinds: gl.constexpr = (gl.int32,) * 8
    found = gl.inline_asm_elementwise(
        _unpacking(), "=&r,=&r,=&r,=&r,=&r,=&r,=&r,=&r,l,r", [(pairs + first).to(gl.int64), mine],
        dtype=kinds, is_pure=True, pack=1,
    )  # fmt: skip
    half0 = gl.join(gl.join(found[0], found[2]), gl.join(found[1], found[3]))  # [.., 32, 1, 2, 2]
    half1 = gl.join(gl.join(found[4], found[6]), gl.join(found[5], found[7]))
    shape: gl.constexpr = half0.shape[:6] + [4]  # noqa: RUF005 -- Triton knows no star
    return gl.convert_layout(half0.reshape(shape), layout), gl.convert_layout(half1.reshape(shape), layout)


@gluon.jit
def bitmask_decode(
    x,
    pairs,
    bits,
    before,
    begin,
    bias,
    out,
    batch,
    rows,
    words,
    steps_in_all,
    chunks,
    kind: gl.constexpr,
    biased: gl.constexpr,
    activation: gl.constexpr,
    partial: gl.constexpr,
    row_warps: gl.constexpr,
    inner_warps: gl.constexpr,
    row_tiles: gl.constexpr,
    tiles: gl.constexpr,
    steps: gl.constexpr,
):
    """Compute some rows of the weight for the whole batch; pairs are loaded a chunk ahead, and bits two."""
    layout: gl.constexpr = fragments(row_warps, inner_warps)
    width: gl.constexpr = 16 * steps * inner_warps
    stretch: gl.constexpr = steps * inner_warps
    first_tile = gl.program_id(0) * row_warps * row_tiles
    first_chunk = gl.program_id(1) * chunks
    tile = first_tile + place(0, row_warps, 7, layout) * row_tiles + place(2, row_tiles, 7, layout)
    step = first_chunk * stretch + place(1, inner_warps, 7, layout) * steps + place(4, steps, 7, layout)
    lane = place(5, 32, 7, layout)
    position = (tile * steps_in_all + step).to(gl.int64)
    bits += position * 8
    before += position * 8
    begin += position
    inside = (tile * 16 < rows) & (step < steps_in_all)
    mine, start = _bits_of(bits, before, begin, lane, inside)
    a0, a1 = _pairs_of(pairs, mine, start, layout)
    inside = (tile * 16 < rows) & (step + stretch < steps_in_all) & (chunks > 1)
    mine, start = _bits_of(bits + 8 * stretch, before + 8 * stretch, begin + stretch, lane, inside)
    shared: gl.constexpr = gl.SwizzledSharedLayout(4, 1, 8, [1, 0])
    buffers = gl.allocate_shared_memory(gl.int32, [2, 8 * tiles, width], shared)
    warps: gl.constexpr = row_warps * inner_warps
    stage(buffers.index(0), x, first_chunk * width, batch, words, tiles, width, warps)
    c = gl.zeros([row_warps, inner_warps, row_tiles, tiles, steps, 32, 4], gl.float32, layout)
    for chunk in range(chunks):
        async_copy.wait_group(0)
        first = (first_chunk + chunk + 1) * width
        stage(buffers.index((chunk + 1) % 2), x, first, batch, words, tiles, width, warps)
        next0, next1 = _pairs_of(pairs, mine, start, layout)
        ahead = (chunk + 2) * stretch
        inside = (tile * 16 < rows) & (step + ahead < steps_in_all) & (chunk + 2 < chunks)
        mine, start = _bits_of(bits + 8 * ahead, before + 8 * ahead, begin + ahead, lane, inside)
        buffer = buffers.index(chunk % 2)
        c = accumulate(c, a0, a1, buffer, kind, row_warps, inner_warps, tiles, steps)
        a0, a1 = next0, next1
    async_copy.wait_group(0)
    finish(c, first_tile, bias, out, batch, rows, biased, activation, partial, row_warps, inner_warps, row_tiles, tiles)
