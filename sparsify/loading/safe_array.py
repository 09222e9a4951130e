"""Pickled arrays without trust: plain values and numpy arrays of numbers, read with stand-ins for numpy's functions.

A pickle runs code through the names it imports. Here only the names are known that numpy arrays are pickled with, and
none of them is numpy's own: arrays are read as shape, type and bytes, and made only when all three fit together.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from sparsify.errors import InputError, UntrustedError
from sparsify.loading.safe_pickle import UNREADABLE, brief

__all__ = ["load_arrays"]

_KINDS = frozenset(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8)) | {"f4", "f8", "b1"}


def load_arrays(path: Path) -> Any:
    """Return what a pickled file holds: numbers, bytes, text, lists, tuples, dictionaries, sets and numpy arrays.

    Text of Python 2 comes as bytes.

    Raises:
        InputError: the file cannot be read; UntrustedError if it names anything else.
    """
    try:
        found = _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        return _made(found)
    except (UntrustedError, InputError) as error:
        raise type(error)(f"{path} {error}") from error
    except (*UNREADABLE, pickle.UnpicklingError, RecursionError) as error:
        raise InputError(f"{path} is damaged or no pickle: {brief(error)}. Get a complete copy.") from error


class _Array:
    """Stands for `numpy.ndarray`."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> np.ndarray[Any, Any]:
        """Return the array, when shape, type and bytes fit together."""
        _, shape, dtype, columns_first, content = self.state
        if not isinstance(dtype, _Type) or not isinstance(content, bytes):
            raise InputError("holds an array that is not made of numbers.")
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise InputError(f"holds an array of the impossible shape {shape}.")
        kind = np.dtype(dtype.order + dtype.kind)
        if math.prod(shape) * kind.itemsize != len(content):
            raise InputError(f"holds an array of shape {tuple(shape)} with {len(content)} bytes. Get a complete copy.")
        return np.frombuffer(content, kind).reshape(shape, order="F" if columns_first else "C")


class _Type:
    """Stands for `numpy.dtype`."""

    def __init__(self, name: Any, *_: Any) -> None:
        kind = name.decode("ascii") if isinstance(name, bytes) else name
        if kind not in _KINDS:
            raise InputError(f"holds an array of the type {kind!r}, which is no number.")
        self.kind: str = kind
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise InputError("holds an array of an unknown byte order.")
        self.order = order


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Stand for `_codecs.encode`, with which Python 3 writes bytes in the protocols of Python 2."""
    if encoding != "latin1":
        raise InputError(f"holds bytes in the encoding {encoding!r}.")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand for `bytes`, with which Python 3 writes empty ones in the protocols of Python 2."""
    return b""


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # from numpy 2 on
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise UntrustedError(
                f"could run code when it is loaded: it uses {module}.{name}, which is no array and no plain value."
            )
        return _KNOWN[module, name]


def _made(value: Any) -> Any:
    """Put arrays in the place of their stand-ins."""
    if isinstance(value, _Array):
        return value.value()
    if isinstance(value, dict):
        return {key: _made(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_made, value))
    return value
