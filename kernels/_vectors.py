"""Code that no loop compiles to, written as LLVM: sums of one sparse row, transposed tiles, counters and shares.

LLVM makes of it what the processor has (AVX2, AVX-512, NEON). Addresses are integers, as they come from torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from sparsify.kernels._places import STEP

__all__ = ["LINE", "address_of", "count_up", "float32_at", "int32_at", "int64_at", "job_of", "row_sums", "turn_tile"]

LINE = 8  # numbers of 64 bits in a line of the cache: each thread's counter has one

_FLOAT, _INT, _LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def _pointer(item: Any) -> Any:
    """Return an intrinsic that makes a pointer of an address."""

    @intrinsic
    def pointer(_: Any, address: Any) -> Any:
        def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(item)(types.int64), write

    return pointer


float32_at, int32_at, int64_at = _pointer(types.float32), _pointer(types.int32), _pointer(types.int64)


def _address_of(_: Any, pointer: Any) -> Any:
    """Return the address in a pointer."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(arguments[0], _LONG)

    return types.int64(pointer), write


def _count_up(_: Any, address: Any, amount: Any) -> Any:
    """Add to an `int64` that several threads use, and return what it was."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _LONG.as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), write


address_of: Any = intrinsic(_address_of)
count_up: Any = intrinsic(_count_up)


@njit(error_model="numpy")
def job_of(counters: int, jobs: int, threads: int, own: int, turn: int) -> tuple[int, int]:
    """Return one of so many jobs that no thread has taken yet, and in which turn it was found; `jobs` if none is left.

    A thread first takes those of its share, which are in its cache since the last call, then what is left of others'.

    Args:
        counters: address of one for each thread, `LINE` numbers apart, of what is taken of its share.
        jobs: of all.
        threads: of the task.
        own: which of them asks.
        turn: in which it found its last one, 0 at first.
    """
    while turn < threads:
        owner = (own + turn) % threads
        begin, end = jobs * owner // threads, jobs * (owner + 1) // threads
        job = begin + count_up(counters + 8 * LINE * owner, 1)
        if job < end:
            return job, turn
        turn += 1
    return jobs, turn


@functools.cache
def row_sums(width: int, lanes: int, index: int) -> Any:
    """Return an intrinsic that adds up one row.

    It is `sums(values, columns, steps, left, panel, target, fresh, start, floor)`: `steps` times `STEP` weights and
    then `left` more, fewer than `STEP`, whose columns are filled up with that of a row of zeros. The panel has `width`
    numbers for each column; their products are added to so many sums at the target, or to `start` if those are to be
    fresh; what is stored is at least `floor`.

    Args:
        width: of the panel.
        lanes: of a vector; if there are more than `width`, the numbers of several columns share one.
        index: bits of a column.
    """
    signature = types.void(*[types.int64] * 6, types.boolean, types.float32, types.float32)

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        _RowSums(builder, width, lanes, index, arguments).write()
        return context.get_dummy_value()

    @intrinsic
    def sums(
        _: Any, values: Any, columns: Any, steps: Any, left: Any, panel: Any, target: Any,
        fresh: Any, start: Any, floor: Any,
    ) -> Any:  # fmt: skip
        return signature, write

    return sums


class _RowSums:
    """The code of one row's sums."""

    def __init__(self, builder: Any, width: int, lanes: int, index: int, arguments: Sequence[Any]) -> None:
        self.builder, self.width, self.lanes = builder, width, lanes
        self.together, self.registers, self.part = max(1, lanes // width), max(1, width // lanes), min(lanes, width)
        self.values, self.columns = (
            builder.inttoptr(base, kind.as_pointer())
            for base, kind in zip(arguments[:2], (_FLOAT, ir.IntType(index)), strict=True)
        )
        self.steps, self.left = arguments[2:4]
        self.panel = builder.inttoptr(arguments[4], ir.IntType(8).as_pointer())
        self.target = builder.inttoptr(arguments[5], _FLOAT.as_pointer())
        self.fresh, self.start, self.floor = arguments[6:]
        flight = min(STEP // self.together, 8 // self.registers)
        self.sums = [
            [cgutils.alloca_once(builder, _floats(lanes)) for _ in range(self.registers)] for _ in range(flight)
        ]

    def write(self) -> None:
        builder, zero = self.builder, ir.Constant(_floats(self.lanes), [0.0] * self.lanes)
        targets = [self.vector(self.target, _LONG(n * self.lanes), self.part) for n in range(self.registers)]
        start, floor = self.filled(self.start), self.filled(self.floor)
        for number, group in enumerate(self.sums):
            for place, target in zip(group, targets, strict=True):
                before = builder.select(self.fresh, start, builder.load(target, align=4))
                builder.store(zero if number else self.widened(before), place)
        with cgutils.for_range(builder, self.steps) as loop:
            begin = builder.mul(loop.index, _LONG(STEP))
            self.add(builder.load(self.vector(self.values, begin, STEP), align=4), begin)
        begin = builder.mul(self.steps, _LONG(STEP))
        self.add(self.rest(begin), begin)
        found = [[builder.load(place) for place in group] for group in self.sums]
        while len(found) > 1:
            half = len(found) // 2
            pairs = [zip(*groups, strict=True) for groups in zip(found[:half], found[half:], strict=True)]
            found = [[builder.fadd(*pair) for pair in group] for group in pairs]
        for total, target in zip(found[0], targets, strict=True):
            value = self.folded(total)
            kept = builder.select(builder.fcmp_ordered("<", value, floor), floor, value)
            builder.store(kept, target, align=4)

    def add(self, values: Any, begin: Any) -> None:
        """Add the products of `STEP` values."""
        builder = self.builder
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(_floats(self.lanes), [_floats(self.lanes)] * 3),
            f"llvm.fma.v{self.lanes}f32",
        )
        offsets = self.offsets(begin)
        groups = STEP // self.together
        for group in range(groups):
            spread = self.shuffled(values, values, [group + n // self.width * groups for n in range(self.lanes)])
            rows = offsets[group::groups]
            for register, total in enumerate(self.sums[group % len(self.sums)]):
                parts = [self.panel_part(row, register) for row in rows]
                while len(parts) > 1:
                    both = list(range(2 * parts[0].type.count))
                    parts = [self.shuffled(*pair, both) for pair in zip(parts[::2], parts[1::2], strict=True)]
                builder.store(builder.call(function, [spread, parts[0], builder.load(total)]), total)

    def offsets(self, begin: Any) -> list[Any]:
        """Return where in the panel the numbers of `STEP` columns begin, in bytes; 16 bits are loaded two at a time."""
        builder, found = self.builder, []
        together = 32 // self.columns.type.pointee.width
        for number in range(0, STEP, together):
            place = builder.gep(self.columns, [builder.add(begin, _LONG(number))])
            both = builder.load(builder.bitcast(place, _INT.as_pointer()), align=4 // together)
            parts = [both] if together == 1 else [builder.and_(both, _INT(0xFFFF)), builder.lshr(both, _INT(16))]
            found += [builder.mul(builder.zext(part, _LONG), _LONG(2 * self.width)) for part in parts]
        return found

    def panel_part(self, offset: Any, register: int) -> Any:
        place = self.builder.gep(self.panel, [self.builder.add(offset, _LONG(4 * register * self.lanes))])
        return self.builder.load(self.builder.bitcast(place, _floats(self.part).as_pointer()), align=4)

    def rest(self, begin: Any) -> Any:
        """Return what is left of the row's values, and zeros behind them."""
        builder, kind, flags = self.builder, _floats(STEP), ir.VectorType(ir.IntType(1), STEP)
        name = f"llvm.masked.load.v{STEP}f32.p0v{STEP}f32"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind.as_pointer(), _INT, flags, kind]), name
        )
        places = ir.VectorType(_INT, STEP)
        left = builder.insert_element(ir.Constant(places, ir.Undefined), builder.trunc(self.left, _INT), _INT(0))
        mask = builder.icmp_unsigned("<", ir.Constant(places, list(range(STEP))), self.shuffled(left, left, [0] * STEP))
        at = self.vector(self.values, begin, STEP)
        return builder.call(function, [at, _INT(4), mask, ir.Constant(kind, [0.0] * STEP)])

    def filled(self, number: Any) -> Any:
        """Return a vector of one number, as long as what is stored."""
        single = self.builder.insert_element(ir.Constant(_floats(self.part), ir.Undefined), number, _INT(0))
        return self.shuffled(single, single, [0] * self.part)

    def widened(self, value: Any) -> Any:
        """Put zeros behind sums, where other columns share their vector."""
        zero = ir.Constant(value.type, [0.0] * self.part)
        return self.shuffled(value, zero, [min(n, self.part) for n in range(self.lanes)])

    def folded(self, value: Any) -> Any:
        """Add up the columns that share a vector."""
        lanes = self.lanes
        while lanes > self.part:
            lanes //= 2
            halves = [self.shuffled(value, value, range(begin, begin + lanes)) for begin in (0, lanes)]
            value = self.builder.fadd(*halves)
        return value

    def shuffled(self, one: Any, other: Any, places: Sequence[int]) -> Any:
        mask = ir.Constant(ir.VectorType(_INT, len(places)), list(places))
        return self.builder.shuffle_vector(one, other, mask)

    def vector(self, base: Any, place: Any, lanes: int) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [place]), _floats(lanes).as_pointer())


def _floats(lanes: int) -> Any:
    return ir.VectorType(_FLOAT, lanes)


@functools.cache
def turn_tile(lanes: int) -> Callable[..., None]:
    """Return an intrinsic that transposes a tile of `lanes` by `lanes`.

    It is `turn(source, source_stride, target, target_stride)`, strides in numbers from one row to the next.
    """
    vector = ir.VectorType(_FLOAT, lanes)

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        source, target = arguments[:2], arguments[2:]

        def at(where: Any, row: int) -> Any:
            base, stride = where
            bytes_ = builder.mul(stride, _LONG(4 * row))
            return builder.inttoptr(builder.add(base, bytes_), vector.as_pointer())

        rows = [builder.load(at(source, row), align=4) for row in range(lanes)]
        step = 1
        while step < lanes:
            low = [n if not n & step else lanes + n - step for n in range(lanes)]
            high = [n + step if not n & step else lanes + n for n in range(lanes)]
            masks = [ir.Constant(ir.VectorType(_INT, lanes), places) for places in (low, high)]
            for row in [row for row in range(lanes) if not row & step]:
                pair = rows[row], rows[row + step]
                rows[row], rows[row + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
            step *= 2
        for row, value in enumerate(rows):
            builder.store(value, at(target, row), align=4)
        return context.get_dummy_value()

    @intrinsic
    def turn(_: Any, source: Any, source_stride: Any, target: Any, target_stride: Any) -> Any:
        return types.void(*[types.int64] * 4), write

    return turn
