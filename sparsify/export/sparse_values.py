"""Sparse values: an array without its zeros, as ONNX files store pruned weights, and back, bit for bit.

Kept is what is not +0.0, so that a -0.0 comes back. Two layouts say where the kept values are:

- `bitmask`: a bit for each value, the lowest of a byte first; ⌈n / 8⌉ bytes.
- `gaps`: a byte for each kept value, how far it is behind the one before (the first: behind place -1), 1 to 255. Where
  the way is longer, values in between are kept, too. It is the smaller one where fewer than an eighth are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sparsify.errors import InputError

__all__ = ["Kind", "Numbers", "SparseValues", "fits"]

Array = np.ndarray[Any, Any]
Kind = Literal["bitmask", "gaps"]
Numbers = Literal["exact", "fp16", "int8"]

_FAR = 255


@dataclass(frozen=True)
class SparseValues:
    """An array without its zeros.

    Attributes:
        kind: the layout.
        shape: of the array.
        places: where values are kept, `uint8`.
        values: what is kept, in the order of the array; for a bitmask a zero before them.
        scale: what int8 values are multiplied with, a float32; 1 for others.
    """

    kind: Kind
    shape: tuple[int, ...]
    places: Array
    values: Array
    scale: float = 1.0

    @classmethod
    def encode(
        cls, array: Array, kind: Kind | None = None, numbers: Numbers = "exact", kept: Array | None = None
    ) -> SparseValues:
        """Return an array of floating-point numbers without its zeros, in the smaller layout unless one is asked for.

        Given a mask, what it keeps is kept instead, and all else is known when the array is decoded.

        With fp16 or int8 the kept values are rounded: to float16, or to whole multiples of max |w| / 127.
        """
        flat = np.ascontiguousarray(array).reshape(-1)
        places = np.flatnonzero(flat.view(f"u{flat.itemsize}") if kept is None else kept.reshape(-1))
        if kind is None:
            kind = "gaps" if 8 * len(places) < len(flat) else "bitmask"
        if kind == "bitmask":
            flags = np.zeros(len(flat), np.bool_)
            flags[places] = True
            stored = np.packbits(flags, bitorder="little")
            values = np.concatenate([flat[:0], np.zeros(1, flat.dtype), flat[places]])
        else:
            stored, values = _gaps(places, flat)
        rounded, scale = _rounded(values, numbers)
        return cls(kind, tuple(array.shape), stored, rounded, scale)

    def decode(self, dtype: np.dtype[Any], base: Array | None = None) -> Array:
        """Return the array: zeros, or the base, with what is kept.

        Raises:
            InputError: places or values do not fit the shape: the file is damaged.
        """
        count, places = math.prod(self.shape), self.positions()
        values = self.values[1:] if self.kind == "bitmask" else self.values
        if len(places) != len(values) or (len(places) and not 0 <= places[-1] < count):
            raise InputError(f"{len(values)} values do not fit {len(places)} places in {list(self.shape)}.")
        found = np.zeros(count, dtype) if base is None else base.reshape(-1).copy()
        found[places] = values.astype(dtype) * dtype.type(self.scale) if self.scale != 1 else values.astype(dtype)
        return found.reshape(self.shape)

    def positions(self) -> Array:
        """Return the places of the kept values in the flat array, ascending."""
        if self.kind == "bitmask":
            return np.flatnonzero(np.unpackbits(self.places, bitorder="little"))
        return np.cumsum(self.places, dtype=np.int64) - 1

    @property
    def bytes(self) -> int:
        """How many bytes places and values take."""
        return int(self.places.nbytes + self.values.nbytes)


def _gaps(places: Array, flat: Array) -> tuple[Array, Array]:
    """Return the gaps between places, and the values there; where a gap is too long for a byte, more are kept."""
    gaps = np.diff(places, prepend=-1)
    between = (gaps - 1) // _FAR  # zeros that are kept on the way
    ends = np.cumsum(between + 1) - 1
    total = int(ends[-1]) + 1 if len(ends) else 0
    stored = np.full(total, _FAR, np.uint8)
    stored[ends] = gaps - _FAR * between
    return stored, flat[np.cumsum(stored, dtype=np.int64) - 1]


def _rounded(values: Array, numbers: Numbers) -> tuple[Array, float]:
    if numbers == "fp16":
        return values.astype(np.float16), 1.0
    if numbers == "int8":
        largest = float(np.abs(values).max(initial=0))
        scale = float(np.float32(largest / 127 or 1))
        return np.rint(values / scale).astype(np.int8), scale
    return values, 1.0


def fits(shape: Sequence[int], kept: int, limit: int) -> bool:
    """Whether no value that is computed on the way takes more bytes than the limit: 4 for each value, 8 for a place."""
    return max(4 * (math.prod(shape) + 8), 8 * kept) <= limit
