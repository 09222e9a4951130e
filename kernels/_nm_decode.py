"""2:4 on GPUs for small batches: bound by the bytes of the weight, which go straight into sparse tensor cores.

A weight in bfloat16 or float16 takes 1.125 bytes of 2, so the ceiling is 1.78 times dense. `mma.sp` multiplies with
what is stored and its places as they are: nothing is decoded, and the inner loop has one to three instructions for
each dense weight. Weights are kept in fragment order (`_fragments`), where every lane loads 16 bytes at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy

from sparsify.kernels._fragments import Plan, accumulate_sparse, finish, fragments, place, stage

__all__ = ["PLANS", "arranged", "nm_decode"]

_NO_PLACES = 0x44  # in a group of zeros the places 0 and 1: equal ones are undefined

PLANS = {
    1: (Plan(), Plan(steps=4), Plan(inner_warps=4, row_tiles=2), Plan(split=2), Plan(split=4), Plan(inner_warps=16)),
    2: (Plan(), Plan(row_tiles=2), Plan(inner_warps=4, row_tiles=2), Plan(split=2), Plan(split=4)),
    4: (Plan(inner_warps=4, row_tiles=2), Plan(row_tiles=2), Plan(2, 4, 2), Plan(row_tiles=2, steps=1, split=2)),
    8: (Plan(1, 4, 2, 1), Plan(2, 4, 2, 1), Plan(1, 4, 2, 1, 2), Plan(2, 4, 2, 1, 4)),
}
"""What is worth trying, by the number of batch tiles; the first of each fits the shared memory of any GPU since 8.0."""


def arranged(values: Tensor, codes: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """Return a 2:4 weight in fragment order, rows filled up to 16 and columns to 64.

    Args:
        values: in the format `Nm`, `[N, ⌈K / 4⌉ · 2]`, of 16 bits each.
        codes: `uint8[N, ⌈⌈K / 4⌉ / 2⌉]`.
        inputs: K.

    Returns:
        Values as `int32[⌈N / 16⌉, ⌈K / 64⌉, 2, 32, 4]`: tile of rows, step, half, lane, register; and places as
        `int32[⌈N / 16⌉, ⌈K / 64⌉, 32]`, of which lanes 4 g and 4 g + 1 have those of the first half, the others those
        of the second: of 16 columns the codes of row g in the lower, of row g + 8 in the upper 16 bits.
    """
    rows, steps = values.shape[0], -(-inputs // 64)
    tiles = -(-rows // 16)
    if -(-inputs // 4) % 2:  # the last byte has one group, and four bits that are no places
        codes = torch.cat([codes[:, :-1], codes[:, -1:] | (_NO_PLACES & 0xF0)], 1)
    whole = F.pad(values.detach(), (0, 32 * steps - values.shape[1], 0, 16 * tiles - rows))
    parts = whole.view(tiles, 2, 8, steps, 2, 2, 4, 2)  # tile, +8, g, step, half, +8 columns, t, pair
    stored = parts.permute(0, 3, 4, 2, 6, 5, 1, 7).reshape(tiles, steps, 2, 32, 8).view(torch.int32)
    filled = F.pad(codes, (0, 8 * steps - codes.shape[1], 0, 16 * tiles - rows), value=_NO_PLACES)
    places = filled.view(tiles, 2, 8, steps, 4, 2)  # tile, +8, g, step, t, byte
    return stored, places.permute(0, 3, 2, 4, 1, 5).reshape(tiles, steps, 32, 4).view(torch.int32).flatten(2)


@gluon.jit
def nm_decode(
    x,
    values,
    places,
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
    """Compute some rows of the weight for the whole batch; one chunk ahead everything is under way."""
    layout: gl.constexpr = fragments(row_warps, inner_warps)
    width: gl.constexpr = 32 * steps * inner_warps
    first_tile = gl.program_id(0) * row_warps * row_tiles
    first_chunk = gl.program_id(1) * chunks
    tile = first_tile + place(0, row_warps, 7, layout) * row_tiles + place(2, row_tiles, 7, layout)
    step = first_chunk * steps * inner_warps + place(1, inner_warps, 7, layout) * steps + place(4, steps, 7, layout)
    lane = place(5, 32, 7, layout)
    position = (tile * steps_in_all + step).to(gl.int64)
    here = values + position * 256 + lane * 4 + place(6, 4, 7, layout)
    there = places + position * 32 + lane
    inside = (tile * 16 < rows) & (step < steps_in_all)
    a0, a1, e = gl.load(here, inside, 0), gl.load(here + 128, inside, 0), gl.load(there, inside, 0)
    shared: gl.constexpr = gl.SwizzledSharedLayout(4, 1, 8, [1, 0])
    buffers = gl.allocate_shared_memory(gl.int32, [2, 8 * tiles, width], shared)
    warps: gl.constexpr = row_warps * inner_warps
    stage(buffers.index(0), x, first_chunk * width, batch, words, tiles, width, warps)
    c = gl.zeros([row_warps, inner_warps, row_tiles, tiles, steps, 32, 4], gl.float32, layout)
    for chunk in range(chunks):
        async_copy.wait_group(0)
        after = chunk + 1
        first = (first_chunk + after) * width
        stage(buffers.index(after % 2), x, first, batch, words, tiles, width, warps)
        here += 256 * steps * inner_warps
        there += 32 * steps * inner_warps
        step += steps * inner_warps
        inside = (tile * 16 < rows) & (step < steps_in_all) & (after < chunks)
        next0, next1, next_e = gl.load(here, inside, 0), gl.load(here + 128, inside, 0), gl.load(there, inside, 0)
        buffer = buffers.index(chunk % 2)
        c = accumulate_sparse(c, a0, a1, e, buffer, kind, row_warps, inner_warps, tiles, steps)
        a0, a1, e = next0, next1, next_e
    async_copy.wait_group(0)
    finish(c, first_tile, bias, out, batch, rows, biased, activation, partial, row_warps, inner_warps, row_tiles, tiles)
