"""Products of sparse rows and a panel of dense columns on CPUs: LLVM vector code through numba.

A kept weight of row n and column k adds `value · panel[k, :]` to `accumulator[n, :]`, where the panel is the transposed
input: its rows are a few vector registers long, so that every weight costs as many multiply-adds as there are lanes in
use, and no gather. Rows are divided among threads; every weight is read once for each panel of at most 32 columns.

numba compiles it for the processor it runs on (AVX2, AVX-512, NEON); the vectors are written as LLVM vectors, because
loops over a short row of accumulators are not kept in registers by any optimizer.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["bitmask_products", "index_products"]

Array = np.ndarray[Any, Any]

_CHUNK = 64  # rows that a thread takes at a time
_LOCK = threading.Lock()  # numba's simplest threading layer must not be entered twice
_MOST: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
_WIDTHS = ((4, 1, 8), (8, 1, 8), (16, 1, 4), (16, 2, 4))  # lanes, registers of so many, weights in flight


def index_products(values: Array, columns: Array, offsets: Array, x: Array, bias: Array | None, threads: int) -> Array:
    """Return `x Wᵀ + bias`, `float32[M, N]`, for a matrix of kept weights with their columns, row by row.

    Args:
        values: `float32[E]`.
        columns: of each value, `int32[E]`.
        offsets: of each row the first value, `int32[N + 1]`.
        x: `float32[M, K]`.
        bias: `float32[N]`.
        threads: how many may work.
    """
    return _products(_by_index, (values, columns, offsets), x, bias, threads)


def bitmask_products(values: Array, bits: Array, offsets: Array, x: Array, bias: Array | None, threads: int) -> Array:
    """Return the same for a matrix whose columns are bits, `uint8[N, ⌈K / 8⌉]`; a row's are counted out on the way."""
    return _products(_by_bits, (values, bits, offsets), x, bias, threads)


def _products(
    make: Callable[[int, int, int], Callable[..., None]],
    matrix: tuple[Array, Array, Array],
    x: Array,
    bias: Array | None,
    threads: int,
) -> Array:
    batch, inputs = x.shape
    out = np.empty((batch, len(matrix[2]) - 1), np.float32)
    if not out.size:
        return out
    bias = np.zeros(out.shape[1], np.float32) if bias is None else bias
    lanes, registers, flight = next((width for width in _WIDTHS if width[0] * width[1] >= batch), _WIDTHS[-1])
    width = lanes * registers
    panels = np.zeros((-(-batch // width), inputs, width), np.float32)
    for number, panel in enumerate(panels):
        part = x[number * width : (number + 1) * width]
        panel[:, : len(part)] = part.T
    with _LOCK:
        before = numba.get_num_threads()
        numba.set_num_threads(max(1, min(threads, _MOST)))
        try:
            make(lanes, registers, flight)(*matrix, panels, bias, out)
        finally:
            numba.set_num_threads(before)
    return out


@functools.cache
def _by_index(lanes: int, registers: int, flight: int) -> Callable[..., None]:
    product = _product(lanes, registers, flight)
    width = lanes * registers

    @numba.njit(parallel=True, nogil=True, error_model="numpy")
    def multiply(values, columns, offsets, panels, bias, out) -> None:  # type: ignore[no-untyped-def]
        batch, rows = out.shape
        chunks = (rows + _CHUNK - 1) // _CHUNK
        for job in numba.prange(chunks * panels.shape[0]):
            panel, first = job // chunks, job % chunks * _CHUNK
            many = min(_CHUNK, rows - first)
            sums = np.empty((_CHUNK, width), np.float32)
            for row in range(many):
                begin, end = np.int64(offsets[first + row]), np.int64(offsets[first + row + 1])
                product(values.ctypes, columns.ctypes, begin, end, panels[panel].ctypes, sums[row].ctypes)
            for number in range(min(width, batch - panel * width)):
                for row in range(many):
                    out[panel * width + number, first + row] = sums[row, number] + bias[first + row]

    return multiply


@functools.cache
def _by_bits(lanes: int, registers: int, flight: int) -> Callable[..., None]:
    product = _product(lanes, registers, flight)
    width = lanes * registers
    places = np.array([[*(bit for bit in range(8) if byte >> bit & 1), *[0] * 8][:8] for byte in range(256)], np.int32)
    counts = np.array([byte.bit_count() for byte in range(256)], np.int64)

    @numba.njit(parallel=True, nogil=True, error_model="numpy")
    def multiply(values, bits, offsets, panels, bias, out) -> None:  # type: ignore[no-untyped-def]
        batch, rows = out.shape
        chunks = (rows + _CHUNK - 1) // _CHUNK
        for job in numba.prange(chunks):
            first = job * _CHUNK
            many = min(_CHUNK, rows - first)
            columns = np.empty(8 * bits.shape[1] + 8, np.int32)
            sums = np.empty(width, np.float32)
            for row in range(first, first + many):
                end = np.int64(0)
                for number in range(bits.shape[1]):
                    byte = bits[row, number]
                    for place in range(8):  # all eight at once; those that are no bits are written over
                        columns[end + place] = 8 * number + places[byte, place]
                    end += counts[byte]
                kept = values[offsets[row] :]
                for panel in range(panels.shape[0]):
                    product(kept.ctypes, columns.ctypes, np.int64(0), end, panels[panel].ctypes, sums.ctypes)
                    for number in range(min(width, batch - panel * width)):
                        out[panel * width + number, row] = sums[number] + bias[row]

    return multiply


def _product(lanes: int, registers: int, flight: int) -> Any:
    """Return an intrinsic that adds up one row: `flight` weights at a time, each in registers of its own."""
    floats, indices = types.CPointer(types.float32), types.CPointer(types.int32)
    signature = types.void(floats, indices, types.int64, types.int64, floats, floats)
    vector, long = ir.VectorType(ir.FloatType(), lanes), ir.IntType(64)
    zero = ir.Constant(vector, [0.0] * lanes)

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        values, columns, begin, end, panel, sums = arguments
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32"
        )

        def register(base: Any, number: int) -> Any:
            return builder.bitcast(builder.gep(base, [long(number * lanes)]), vector.as_pointer())

        def add(accumulators: list[Any], place: Any) -> list[Any]:
            column = builder.zext(builder.load(builder.gep(columns, [place])), long)
            base = builder.gep(panel, [builder.mul(column, long(lanes * registers))])
            value = builder.load(builder.gep(values, [place]))
            single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
            mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            spread = builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), mask)
            loaded = [builder.load(register(base, number), align=4) for number in range(registers)]
            return [builder.call(fma, [spread, *pair]) for pair in zip(loaded, accumulators, strict=True)]

        def loop(begin: Any, end: Any, stride: int, start: list[Any], body: Callable[..., list[Any]]) -> list[Any]:
            """Run a body from one place to another, and return the accumulators behind it."""
            before = builder.block
            inside, behind = builder.append_basic_block(), builder.append_basic_block()
            builder.cbranch(builder.icmp_signed("<", begin, end), inside, behind)
            builder.position_at_end(inside)
            place = builder.phi(long)
            held = [builder.phi(vector) for _ in start]
            made = body(held, place)
            following = builder.add(place, long(stride))
            for phi, first, then in zip([place, *held], [begin, *start], [following, *made], strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(then, inside)
            builder.cbranch(builder.icmp_signed("<", following, end), inside, behind)
            builder.position_at_end(behind)
            left = [builder.phi(vector) for _ in start]
            for phi, first, then in zip(left, start, made, strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(then, inside)
            return left

        def several(held: list[Any], place: Any) -> list[Any]:
            made = []
            for step in range(flight):
                part = held[step * registers : (step + 1) * registers]
                made += add(part, builder.add(place, long(step)))
            return made

        whole = builder.add(begin, builder.and_(builder.sub(end, begin), long(-flight)))
        found = loop(begin, whole, flight, [zero] * (flight * registers), several)
        while len(found) > registers:
            half = len(found) // 2
            found = [builder.fadd(one, other) for one, other in zip(found[:half], found[half:], strict=True)]
        found = loop(whole, end, 1, found, add)
        for number, value in enumerate(found):
            builder.store(value, register(sums, number), align=4)
        return context.get_dummy_value()

    @intrinsic
    def product(_: Any, values: Any, columns: Any, begin: Any, end: Any, panel: Any, sums: Any) -> Any:
        return signature, write

    return product
