"""Tensors of an ONNX file: that they are as large as they say, and that external data is where it may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from sparsify.errors import InputError

__all__ = ["check_places", "check_tensors"]

_Tensor = onnx.TensorProto
_BYTES: dict[int, int] = {
    _Tensor.FLOAT: 4,
    _Tensor.DOUBLE: 8,
    _Tensor.FLOAT16: 2,
    _Tensor.INT64: 8,
    _Tensor.INT32: 4,
    _Tensor.INT16: 2,
    _Tensor.INT8: 1,
    _Tensor.UINT8: 1,
    _Tensor.BOOL: 1,
}
_AGAIN = "Get a complete copy of the file, with the files beside it"


def check_tensors(proto: onnx.ModelProto, path: Path) -> None:
    """Check type, shape, place and size of every constant of a model.

    Raises:
        InputError: one is of a type that PyTorch models do not have, has fewer or more bytes than its shape says, or
            lies in a file outside the model's folder.
    """
    if proto.graph.sparse_initializer:
        raise InputError(f"{path} has sparse initializers, which onnxruntime does not multiply with; store them dense.")
    for tensor in _tensors(proto):
        name = f"the constant {tensor.name!r:.100}"
        if tensor.data_type not in _BYTES:
            known = tensor.data_type in _Tensor.DataType.values()
            kind = _Tensor.DataType.Name(tensor.data_type) if known else f"number {tensor.data_type}"
            raise InputError(f"{path}: {name} is of the type {kind}, which sparsify does not read.")
        if any(size < 0 for size in tensor.dims):
            raise InputError(f"{path} is damaged: {name} has the negative size {min(tensor.dims)}. {_AGAIN}.")
        wanted = math.prod(tensor.dims) * _BYTES[tensor.data_type]
        external = tensor.data_location == _Tensor.EXTERNAL
        found = _external_bytes(tensor, path, wanted) if external else _own_bytes(tensor)
        if found != wanted:
            shape = "x".join(map(str, tensor.dims))
            raise InputError(
                f"{path} is damaged: {name} has the shape {shape:.100}, which takes {wanted} bytes; there are {found}. "
                f"{_AGAIN}."
            )


def check_places(proto: onnx.ModelProto, path: Path) -> None:
    """Check that the constants of a model that lie in other files lie in its folder, and are there.

    Raises:
        InputError: one does not.
    """
    for tensor in _tensors(proto):
        if tensor.data_location == _Tensor.EXTERNAL:
            _external_bytes(tensor, path, 0)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from proto.graph.initializer
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _own_bytes(tensor: onnx.TensorProto) -> int:
    """Return how many bytes the values take that lie in the file itself."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    lists: dict[int, Any] = {
        _Tensor.FLOAT: tensor.float_data,
        _Tensor.DOUBLE: tensor.double_data,
        _Tensor.INT64: tensor.int64_data,
    }
    return len(lists.get(tensor.data_type, tensor.int32_data)) * _BYTES[tensor.data_type]


def _external_bytes(tensor: onnx.TensorProto, path: Path, wanted: int) -> int:
    """Return how many bytes of another file a tensor takes; that file must be in the model's folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = Path(entries.get("location", ""))
    folder = path.resolve().parent
    try:
        file = (folder / place).resolve()
        outside = place.is_absolute() or ".." in place.parts or not file.is_relative_to(folder)
        if not outside and not file.is_file():
            raise InputError(f"{path}: its weights lie in {str(place)!r:.200}, which is not there. {_AGAIN}.")
    except (OSError, ValueError, RuntimeError):
        outside = True
    if outside or not place.parts:
        raise InputError(
            f"{path}: the constant {tensor.name!r:.100} lies in {str(place)!r:.200}, outside the folder of the model. "
            "A model may only read files beside it: put that file there and save the model again, or do not trust it."
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", wanted))
    except ValueError:
        raise InputError(f"{path} is damaged: where {tensor.name!r:.100} lies is not a number. {_AGAIN}.") from None
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise InputError(
            f"{path}: the constant {tensor.name!r:.100} lies at the bytes {offset} to {offset + length} of {place}, "
            f"which has {file.stat().st_size}. {_AGAIN}."
        )
    return length
