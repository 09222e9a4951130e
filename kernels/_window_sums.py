"""Sums of sixteen sparse rows at a time, written as LLVM for AVX-512: what they read of x is picked from registers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from sparsify.kernels._windows import ALIGNED, LANES, STEPS, WINDOWS

__all__ = ["available", "window_sums"]

_INT, _LONG = ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_INT, LANES)
_LINE = 4 * LANES  # bytes of a vector
_TOGETHER = {1: 3, 2: 2, 3: 2, 4: 2}  # sums of a row that do not wait for each other, by the rows of x


@functools.cache
def available() -> bool:
    """Tell whether the processor that numba compiles for has AVX-512."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return "+avx512f" in features.split(",")


@functools.cache
def window_sums(batch: int) -> Any:
    """Return an intrinsic that computes the outputs of sixteen rows for 1 to 4 rows of x.

    It is `sums(values, codes, bases, rounds, x, x_stride, bias, floor, target, stride)`: addresses of the first of so
    many rounds (`Windows`), of x, of sixteen numbers of a bias and of what is written, and bytes from one row of x and
    of the target to the next; what is stored is at least `floor`. It returns whether a sum is not finite: then the zero
    of a lane that waits may have met an infinity, and nothing that was stored may be believed.
    """
    signature = types.int64(*[types.int64] * 7, types.float32, types.int64, types.int64)

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return _Sums(builder, batch).write(*arguments)

    @intrinsic
    def sums(
        _: Any, values: Any, codes: Any, bases: Any, rounds: Any, x: Any, x_stride: Any, bias: Any, floor: Any,
        target: Any, stride: Any,
    ) -> Any:  # fmt: skip
        return signature, write

    return sums


class _Sums:
    """The code of sixteen rows' sums."""

    def __init__(self, builder: Any, batch: int) -> None:
        self.builder, self.batch = builder, batch
        self.pick = self.function("llvm.x86.avx512.vpermi2var.ps.512", [_FLOATS, _INTS, _FLOATS])
        self.add = self.function("llvm.fma.v16f32", [_FLOATS] * 3)
        self.sums = [[cgutils.alloca_once(builder, _FLOATS) for _ in range(_TOGETHER[batch])] for _ in range(batch)]

    def write(
        self, values: Any, codes: Any, bases: Any, rounds: Any, x: Any, x_stride: Any, bias: Any, floor: Any,
        target: Any, stride: Any,
    ) -> Any:  # fmt: skip
        builder = self.builder
        for place in (place for row in self.sums for place in row):
            builder.store(ir.Constant(_FLOATS, [0.0] * LANES), place)
        with cgutils.for_range(builder, rounds) as loop:
            self.round(
                self.after(values, loop.index, STEPS * _LINE), self.after(codes, loop.index, _LINE),
                self.after(bases, loop.index, 2 * WINDOWS), x, x_stride,
            )  # fmt: skip
        start, least = self.load(bias), self.filled(floor)
        odd = ir.Constant(ir.IntType(LANES), 0)
        for number, row in enumerate(self.sums):
            found = functools.reduce(builder.fadd, [builder.load(place) for place in row], start)
            nothing = builder.fsub(found, found)  # zero, but of infinities and of what is no number
            wrong = builder.fcmp_unordered("uno", nothing, nothing)
            odd = builder.or_(odd, builder.bitcast(wrong, ir.IntType(LANES)))
            kept = builder.select(builder.fcmp_ordered("<", found, least), least, found)
            builder.store(kept, self.vector(self.after(target, stride, number)), align=4)
        return builder.zext(odd, _LONG)

    def round(self, values: Any, codes: Any, bases: Any, x: Any, x_stride: Any) -> None:
        """Add the products of a round."""
        builder = self.builder
        code = builder.load(self.vector(codes, _INTS), align=_LINE)
        for step in range(STEPS):
            if step % (STEPS // WINDOWS) == 0:
                base = builder.load(self.vector(self.plus(bases, 2 * step * WINDOWS // STEPS), ir.IntType(16)), align=2)
                here = self.after(x, builder.zext(base, _LONG), 4 * ALIGNED)
                rows = [self.after(here, x_stride, number) for number in range(self.batch)]
                windows = [(self.load(row), self.load(self.plus(row, _LINE))) for row in rows]
            places = builder.lshr(code, ir.Constant(_INTS, [5 * step] * LANES))  # what is above five bits is ignored
            value = builder.load(self.vector(self.plus(values, step * _LINE)), align=_LINE)
            for (low, high), row in zip(windows, self.sums, strict=True):
                place = row[step % len(row)]
                product = [value, builder.call(self.pick, [low, places, high]), builder.load(place)]
                builder.store(builder.call(self.add, product), place)

    def function(self, name: str, arguments: Sequence[Any]) -> Any:
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(_FLOATS, arguments), name)

    def plus(self, address: Any, amount: int) -> Any:
        return self.builder.add(address, _LONG(amount))

    def after(self, address: Any, number: Any, size: int) -> Any:
        """Return the address behind so many things of a size."""
        return self.builder.add(address, self.builder.mul(number, _LONG(size)))

    def vector(self, address: Any, kind: Any = _FLOATS) -> Any:
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, address: Any) -> Any:
        return self.builder.load(self.vector(address), align=4)

    def filled(self, number: Any) -> Any:
        single = self.builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), number, _INT(0))
        return self.builder.shuffle_vector(single, single, ir.Constant(_INTS, [0] * LANES))
