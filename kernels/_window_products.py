"""Products of sparse rows and a few rows of x on processors with AVX-512, compiled by numba.

A call is one task: threads take chunks of slices, and count what is taken in the task itself, as in `_row_products`.
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
from torch.nn import functional as F

from sparsify.kernels._threads import run, task_of
from sparsify.kernels._vectors import LINE, address_of, count_up, float32_at, int32_at, int64_at, job_of
from sparsify.kernels._window_sums import window_sums
from sparsify.kernels._windows import ALIGNED, LANES, STEPS, WINDOWS, Windows

__all__ = ["window_product"]

_CHUNK = 4  # slices that a thread takes at a time
_ROWS = 4  # rows of x that registers hold the windows of
_GRAIN = 1 << 15  # steps, times rows of x and one more, for which another thread pays
_GIVEN = (
    "values", "codes", "bases", "starts", "order", "bias", "x", "out",  # addresses
    "outputs", "batch", "stride", "threads", "rectified",
)  # fmt: skip
_TASK = numba.from_dtype(np.dtype([(name, np.int64) for name in _GIVEN]))
_CAME, _ODD, _ZEROS, _TAKEN = (8 * len(_GIVEN) + 8 * LINE * number for number in range(4))
_OWN = _ROWS * LANES // 2  # numbers of a task in which a thread keeps sums


def window_product(windows: Windows, x: Tensor, bias: Tensor | None, rectified: bool) -> Tensor | None:
    """Return `x Wᵀ + bias`, `float32[..., N]`, or what of it is positive.

    Args:
        windows: of the weight.
        x: `float32[..., K]`.
        bias: `float32[N]`, contiguous.
        rectified: whether what is negative becomes zero.

    Returns:
        Nothing if there is a number in the result that is not finite: here a weight that is pruned may have met an
        infinity of x.
    """
    shape, outputs = x.shape, windows.outputs
    inputs = shape[-1]
    batch = x.numel() // inputs
    out = x.new_empty(batch, outputs)
    if inputs % ALIGNED or inputs < 2 * ALIGNED:
        more = max(-inputs % ALIGNED, 2 * ALIGNED - inputs)
        x, inputs = F.pad(x, (0, more)), inputs + more
    x = x.contiguous()
    threads = min(torch.get_num_threads(), 1 + windows.steps * (1 + batch) // _GRAIN)
    given = (
        *windows.addresses, 0 if bias is None else bias.data_ptr(), x.data_ptr(), out.data_ptr(),
        outputs, batch, 4 * inputs, threads, rectified,
    )  # fmt: skip
    task = task_of(given, LINE * (3 + threads) + _OWN * threads)
    run(_worker(batch % _ROWS).address, task, threads)
    if task[_ODD // 8]:
        return None
    return out if len(shape) == 2 else out.view(*shape[:-1], outputs)


@functools.cache
def _worker(tail: int) -> Any:
    """Return the C function that every thread runs, where so many rows of x are left behind whole fours."""
    multiply_slice = _multiplier(tail)

    @numba.cfunc(types.void(types.CPointer(_TASK)), error_model="numpy")
    def work(pointer) -> None:  # type: ignore[no-untyped-def]
        task, here = carray(pointer, 1)[0], address_of(pointer)
        slices = (task.outputs + LANES - 1) // LANES
        chunks = (slices + _CHUNK - 1) // _CHUNK
        own = count_up(here + _CAME, 1)
        sums, zeros = here + _TAKEN + 8 * (LINE * task.threads + _OWN * own), here + _ZEROS
        odd = np.int64(0)
        chunk, turn = job_of(here + _TAKEN, chunks, task.threads, own, 0)
        while chunk < chunks:
            for number in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, slices)):
                odd |= multiply_slice(task, number, sums, zeros)
            chunk, turn = job_of(here + _TAKEN, chunks, task.threads, own, turn)
        if odd:
            count_up(here + _ODD, 1)

    return work


def _multiplier(tail: int) -> Callable[..., int]:
    """Return a function that computes what a slice gives for all rows of x, and whether that is not finite."""
    fours, rest = window_sums(_ROWS), window_sums(tail or _ROWS)

    @numba.njit(error_model="numpy")
    def multiply_slice(task, number, sums, zeros) -> int:  # type: ignore[no-untyped-def]
        start = int64_at(task.starts)[number]
        rounds = int64_at(task.starts)[number + 1] - start
        values, codes = task.values + 4 * STEPS * LANES * start, task.codes + 4 * LANES * start
        bases = task.bases + 2 * WINDOWS * start
        first = number * LANES
        direct = not task.order and first + LANES <= task.outputs
        bias = task.bias + 4 * first if direct and task.bias else zeros
        floor = np.float32(0) if direct and task.rectified else np.float32(-np.inf)
        stride = 4 * task.outputs if direct else 4 * LANES
        odd = np.int64(0)
        for row in range(0, task.batch, _ROWS):
            x = task.x + row * task.stride
            target = task.out + 4 * (row * task.outputs + first) if direct else sums
            if task.batch - row >= _ROWS:
                odd |= fours(values, codes, bases, rounds, x, task.stride, bias, floor, target, stride)
            else:
                odd |= rest(values, codes, bases, rounds, x, task.stride, bias, floor, target, stride)
            if not direct:
                _spread(task, first, row, sums)
        return int(odd)

    return multiply_slice


@numba.njit(error_model="numpy")
def _spread(task, first, row, sums) -> None:  # type: ignore[no-untyped-def]
    """Write sums of a slice where they belong, if its rows do not follow each other or are fewer than lanes."""
    found, out = float32_at(sums), float32_at(task.out)
    order, bias = int32_at(task.order), float32_at(task.bias)
    for lane in range(min(LANES, task.outputs - first)):
        output = np.int64(order[first + lane]) if task.order else first + lane
        start = bias[output] if task.bias else np.float32(0)
        for number in range(min(_ROWS, task.batch - row)):
            value = found[number * LANES + lane] + start
            if task.rectified and value < 0:
                value = np.float32(0)
            out[(row + number) * task.outputs + output] = value
