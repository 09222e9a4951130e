"""Products of sparse rows and a panel of dense columns on CPUs, compiled by numba for the processor it runs on.

A kept weight of row n and column k adds `value · panel[k, :]` to `sums[n, :]`, where the panel is the transposed input:
4 to 32 of its columns, or the only one. So every weight costs as many multiply-adds as there are lanes in use, and what
is read at random stays in the nearest caches.

A call is one task: threads first transpose x together, then take chunks of rows. They count what is taken in the task
itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numba import carray, types  # type: ignore[attr-defined]
from torch import Tensor

from sparsify.kernels._places import CHUNK, DAMAGED, STEP, Places
from sparsify.kernels._threads import run, task_of
from sparsify.kernels._vectors import (
    LINE,
    address_of,
    count_up,
    float32_at,
    int32_at,
    int64_at,
    job_of,
    row_sums,
    turn_tile,
)

__all__ = ["row_product"]

_LANES = {1: 8, 4: 8, 8: 16, 16: 16, 32: 16}  # of a vector, by the width of a panel
_FITTING = [next(width for width in _LANES if width >= batch) for batch in range(33)]  # the width for a batch
_GRAIN = 1 << 17  # numbers for which another thread pays
_GIVEN = (
    "values", "columns", "pieces", "starts", "bias", "x", "out", "panels", "sums",  # addresses
    "outputs", "batch", "inputs", "blocks", "threads", "rectified",
)  # fmt: skip
_TASK = numba.from_dtype(np.dtype([(name, np.int64) for name in _GIVEN]))
_CAME, _TURNING, _TURNED, _TAKEN = (8 * len(_GIVEN) + 8 * LINE * number for number in range(4))


def row_product(values: Tensor, places: Places, x: Tensor, bias: Tensor | None, rectified: bool) -> Tensor:
    """Return `x Wᵀ + bias`, `float32[..., N]`, or what of it is positive.

    Args:
        values: what is kept, row by row, `float32[E]`.
        places: their columns.
        x: `float32[..., K]`.
        bias: `float32[N]`, contiguous.
        rectified: whether what is negative becomes zero.

    Raises:
        ValueError: there are more or fewer values than places: the kernel would read beyond their end.
    """
    if values.shape != (places.kept,):
        raise ValueError(DAMAGED)
    out = x.new_empty(*x.shape[:-1], places.outputs)
    if out.numel():
        _multiply(values.contiguous(), places, x.contiguous(), bias, out, rectified)
    return out


def _multiply(values: Tensor, places: Places, x: Tensor, bias: Tensor | None, out: Tensor, rectified: bool) -> None:
    """Write the product of contiguous tensors."""
    inputs, batch = x.shape[-1], out.numel() // places.outputs
    width = _FITTING[min(batch, len(_FITTING) - 1)]
    panels = -(-batch // width)
    threads = min(torch.get_num_threads(), 1 + places.kept * panels * (8 + width) // _GRAIN)
    turned = panels * (inputs + 1) * width + 15 & -16  # so that sums begin on a line of the cache
    scratch = x.new_empty(turned + threads * CHUNK * width)
    panels_at = scratch.data_ptr()
    given = (
        values.data_ptr(), *places.addresses, 0 if bias is None else bias.data_ptr(), x.data_ptr(), out.data_ptr(),
        panels_at, panels_at + 4 * turned, places.outputs, batch, inputs, places.blocks, threads, rectified,
    )  # fmt: skip
    task = task_of(given, LINE * (3 + threads))
    worker = _worker(width, 8 * places.columns.itemsize)  # it lives as long as it runs, whatever the cache does
    run(worker.address, task, threads)


@functools.cache
def _worker(width: int, index: int) -> Any:
    """Return the C function that every thread runs, for panels of a width and columns of so many bits."""
    turn_columns, multiply_rows, write_out = _turner(width), _multiplier(width, index), _writer(width)

    @numba.cfunc(types.void(types.CPointer(_TASK)), error_model="numpy")
    def work(pointer) -> None:  # type: ignore[no-untyped-def]
        task, here = carray(pointer, 1)[0], address_of(pointer)
        panels, chunks = (task.batch + width - 1) // width, (task.outputs + CHUNK - 1) // CHUNK
        parts = task.inputs // CHUNK + 1
        own = count_up(here + _CAME, 1)
        while True:
            job = count_up(here + _TURNING, 1)
            if job >= panels * parts:
                break
            turn_columns(task, job // parts, job % parts * CHUNK)
            count_up(here + _TURNED, 1)
        while count_up(here + _TURNED, 0) < panels * parts:
            pass
        sums = task.sums + 4 * CHUNK * width * own
        jobs = panels * chunks
        job, turn = job_of(here + _TAKEN, jobs, task.threads, own, 0)
        while job < jobs:
            multiply_rows(task, job // chunks, job % chunks, sums)
            write_out(task, job // chunks, job % chunks, sums)
            job, turn = job_of(here + _TAKEN, jobs, task.threads, own, turn)

    return work


def _turner(width: int) -> Callable[..., None]:
    """Return a function that writes some columns of x as rows of a panel; the row behind the last is zero."""
    lanes = min(width, 16)
    turn = turn_tile(lanes)

    @numba.njit(error_model="numpy")
    def turn_columns(task, panel, first) -> None:  # type: ignore[no-untyped-def]
        begin, end = panel * width, min(first + CHUNK, task.inputs)
        target = task.panels + 4 * begin * (task.inputs + 1)
        x, out = float32_at(task.x), float32_at(target)
        if width == 1:  # a copy that a vector loop can make
            for k in range(first, end):
                out[k] = x[begin * task.inputs + k]
        for lane in range(begin, begin + width, lanes):
            column = first
            while 1 < lanes <= task.batch - lane and column + lanes <= end:
                to = target + 4 * (column * width + lane - begin)
                turn(task.x + 4 * (lane * task.inputs + column), task.inputs, to, width)
                column += lanes
            for k in range(column, end if width > 1 else first):
                for number in range(lane, lane + lanes):
                    known = number < task.batch
                    out[k * width + number - begin] = x[number * task.inputs + k] if known else np.float32(0)
        if first + CHUNK > task.inputs:
            for number in range(width):
                out[end * width + number] = np.float32(0)

    return turn_columns


def _multiplier(width: int, index: int) -> Callable[..., None]:
    """Return a function that computes the sums of a chunk of rows, `[CHUNK, width]`."""
    sum_row = row_sums(width, _LANES[width], index)
    step = index // 8 * STEP

    @numba.njit(error_model="numpy")
    def multiply_rows(task, panel, chunk, sums) -> None:  # type: ignore[no-untyped-def]
        pieces, bias = int32_at(task.pieces), float32_at(task.bias)
        columns = task.columns + index // 8 * int64_at(task.starts)[chunk]
        here = task.panels + 4 * panel * width * (task.inputs + 1)
        first = chunk * CHUNK
        many = min(CHUNK, task.outputs - first)
        for block in range(task.blocks):
            rectified = task.rectified and block == task.blocks - 1
            floor = np.float32(0) if rectified else np.float32(-np.inf)
            place = 4 * (first * task.blocks + block * many)
            for piece in range(place, place + 4 * many, 4):
                row, begin = np.int64(pieces[piece]), np.int64(pieces[piece + 1])
                steps, left = np.int64(pieces[piece + 2]), np.int64(pieces[piece + 3])
                start = bias[row] if task.bias else np.float32(0)
                target = sums + 4 * width * (row - first)
                sum_row(task.values + 4 * begin, columns, steps, left, here, target, block == 0, start, floor)
                columns += step * (steps + 1)

    return multiply_rows


def _writer(width: int) -> Callable[..., None]:
    """Return a function that writes the sums of a chunk of rows where they belong."""
    lanes = min(width, 16)
    turn = turn_tile(lanes)

    @numba.njit(error_model="numpy")
    def write_out(task, panel, chunk, sums) -> None:  # type: ignore[no-untyped-def]
        begin, first = panel * width, chunk * CHUNK
        many = min(CHUNK, task.outputs - first)
        found, out = float32_at(sums), float32_at(task.out)
        for lane in range(0, min(width, task.batch - begin), lanes):
            row = 0
            while 1 < lanes <= task.batch - begin - lane and row + lanes <= many:
                target = task.out + 4 * ((begin + lane) * task.outputs + first + row)
                turn(sums + 4 * (row * width + lane), width, target, task.outputs)
                row += lanes
            for number in range(lane, min(lane + lanes, task.batch - begin)):
                for other in range(row, many):
                    out[(begin + number) * task.outputs + first + other] = found[other * width + number]

    return write_out
