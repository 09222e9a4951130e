"""Tensor files: `.safetensors` written tensor by tensor, read through memory mapping, each tensor with a checksum.

What sparsify says of the tensors is JSON in the entry `sparsify` of the metadata: the version of the layout, a CRC-32
of each tensor, and of those that are compressed the type and shape. A CRC-32 of that text is the entry
`sparsify.crc32`, so that a damaged header is noticed, too. A file without these entries is another program's, and is
read as it is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsify.coding.planes import compressed, decompressed, longest
from sparsify.errors import ExportError, InputError, first_line
from sparsify.naming import first_names
from sparsify.version import __version__

__all__ = ["LAYOUT", "Part", "TensorFile", "write_plain", "write_tensors"]

LAYOUT = 2  # 1 had neither checksums nor Rice codes, and did not say its number

_TOLD, _CRC = "sparsify", "sparsify.crc32"
_LEAST = 512  # bytes of a tensor from which on compressing it is worth an entry in the header
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "U16": torch.uint16,
    "U32": torch.uint32, "U64": torch.uint64, "BOOL": torch.bool, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class Part:
    """A tensor of a file that is written.

    Attributes:
        name: in the file.
        dtype: its type.
        shape: its shape.
        make: returns it, when it is its turn.
    """

    name: str
    dtype: torch.dtype
    shape: Sequence[int]
    make: Callable[[], Tensor]

    @classmethod
    def of(cls, name: str, value: Tensor) -> Part:
        """Return the part of a tensor that is there."""
        return cls(name, value.dtype, tuple(value.shape), lambda: value)

    @property
    def count(self) -> int:
        """How many values it has."""
        return torch.Size(self.shape).numel()

    @property
    def nbytes(self) -> int:
        """How many bytes it takes, before it is compressed."""
        return int(self.count * self.dtype.itemsize)


def write_tensors(path: Path, parts: Sequence[Part], told: Mapping[str, Any], *, compress: bool = False) -> None:
    """Write tensors one after the other, so that no more than one need be in memory; the same give the same bytes.

    The header comes first in a file, and holds sizes and checksums that are known last: room is left for it.

    Args:
        path: of the file, which is written in place.
        parts: the tensors.
        told: what the metadata says besides.
        compress: with zstd, all tensors but small ones.

    Raises:
        ExportError: a tensor has a type that such files do not have.
    """
    _check_types(parts)
    packed = {part.name for part in parts if compress and part.nbytes >= _LEAST}
    ordered = _ordered(parts, packed)
    sizes = {part.name: longest(part.count, part.dtype) for part in parts if part.name in packed}
    room = -(-len(_header(ordered, sizes, dict.fromkeys((part.name for part in parts), 0), told)) // 8) * 8
    checksums = {}
    with path.open("wb") as file:
        file.seek(8 + room)
        for part in ordered:
            value = _made(part)
            stored = compressed(value) if part.name in packed else value
            if part.name in packed:
                sizes[part.name] = len(stored)
            checksums[part.name] = _checksum(part.name, stored)
            file.write(_bytes(stored))
        file.seek(0)
        header = _header(ordered, sizes, checksums, told)
        file.write(room.to_bytes(8, "little") + header.ljust(room))


def write_plain(path: Path, parts: Sequence[Part], metadata: Mapping[str, str]) -> None:
    """Write tensors one after the other, without checksums, as `safetensors.torch.save_file` writes all of them.

    Args:
        path: of the file, which is written in place.
        parts: the tensors.
        metadata: what the header says besides.

    Raises:
        ExportError: a tensor has a type that such files do not have.
    """
    _check_types(parts)
    ordered = _ordered(parts)
    header = _compact({"__metadata__": metadata, **_entries(ordered, {})}).encode()
    room = -(-len(header) // 8) * 8
    with path.open("wb") as file:
        file.write(room.to_bytes(8, "little") + header.ljust(room))
        for part in ordered:
            file.write(_bytes(_made(part)))


def _check_types(parts: Sequence[Part]) -> None:
    if strange := [part for part in parts if part.dtype not in _NAMES]:
        raise ExportError(f"{strange[0].name} is {strange[0].dtype}, which .safetensors files do not have; write .pt2.")


def _ordered(parts: Sequence[Part], packed: Collection[str] = ()) -> list[Part]:
    """Order as safetensors does, larger types first: then all lie at multiples of their size."""
    return sorted(parts, key=lambda part: (1 if part.name in packed else -part.dtype.itemsize, part.name))


def _made(part: Part) -> Tensor:
    value = part.make().detach().cpu().resolve_conj().contiguous()
    if value.dtype != part.dtype or tuple(value.shape) != tuple(part.shape):
        raise AssertionError(f"{part.name} is {value.dtype}{list(value.shape)}")
    return value


def _header(
    parts: Sequence[Part], sizes: Mapping[str, int], checksums: Mapping[str, int], told: Mapping[str, Any]
) -> bytes:
    """Return the header; with larger sizes it is no shorter."""
    dense = {part.name: [_NAMES[part.dtype], list(part.shape)] for part in parts if part.name in sizes}
    crc = {name: f"{value:08x}" for name, value in checksums.items()}
    known = {"version": __version__, "layout": LAYOUT, **told, **({"zstd": dense} if dense else {}), "crc32": crc}
    text = _compact(known)
    metadata = {_TOLD: text, _CRC: f"{zlib.crc32(text.encode()):08x}"}
    return _compact({"__metadata__": metadata, **_entries(parts, sizes)}).encode()


def _entries(parts: Sequence[Part], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return where tensors lie, one behind the other; those with a size are so many bytes."""
    entries: dict[str, Any] = {}
    start = 0
    for part in parts:
        size = sizes.get(part.name)
        stored = (_NAMES[part.dtype], list(part.shape)) if size is None else ("U8", [size])
        end = start + (part.nbytes if size is None else size)
        entries[part.name] = {"dtype": stored[0], "shape": stored[1], "data_offsets": [start, end]}
        start = end
    return entries


def _untyped(value: Any) -> Any:
    """Return what safetensors has written no types for."""
    return value


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _bytes(value: Tensor) -> Any:
    return value.reshape(-1).view(torch.uint8).numpy().data


def _checksum(name: str, value: Tensor) -> int:
    """Return the CRC-32 of a tensor as it is stored: its name, type, shape and bytes."""
    what = f"{name} {_NAMES.get(value.dtype)} {list(value.shape)}"
    return zlib.crc32(_bytes(value), zlib.crc32(what.encode()))


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a `.safetensors` file by name, read when they are asked for.

    They lie in the file's pages (memory mapping) unless they are compressed. What was written with a checksum is
    checked when it is read.

    Attributes:
        told: what sparsify said of the tensors besides; empty where another program wrote the file.
        compressed: type and shape of the tensors that are compressed.

    Args:
        path: of the file.

    Raises:
        InputError: it is no whole `.safetensors` file, its header is damaged, or a newer sparsify wrote it.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self.path = path
        self._checked: set[str] = set()
        with self._blamed():
            file: Any = _untyped(safe_open(path, "pt"))
            metadata, names = file.metadata() or {}, list(file.keys())
        self._file = file
        self.told: dict[str, Any] = self._told(metadata)
        self.compressed: Mapping[str, Any] = self.told.pop("zstd", {})
        self._crc = self.told.pop("crc32", None)
        if self._crc is not None and sorted(self._crc) != sorted(names):
            strange = sorted(set(self._crc).symmetric_difference(names))
            raise self._damaged(f"its header does not fit what was written: {first_names(strange)}")
        self._names = dict.fromkeys(names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with self._blamed():
            value: Tensor = self._file.get_tensor(name)
        if self._crc is not None and name not in self._checked:
            if f"{_checksum(name, value):08x}" != self._crc[name]:
                raise self._damaged(f"{name} does not have the checksum that it was written with")
            self._checked.add(name)
        if name not in self.compressed:
            return value
        kind, shape = self.compressed[name]
        try:
            return decompressed(value, _DTYPES[kind], shape)
        except ValueError as error:
            raise self._damaged(f"{name} cannot be decompressed: {first_line(error)}") from error
        except InputError as error:
            raise InputError(f"{self.path}: {error}.") from None

    def kind(self, name: str) -> tuple[torch.dtype, list[int]]:
        """Return the type and shape of a tensor, which is not read for it."""
        with self._blamed():
            found = self._file.get_slice(name)
            kind, shape = self.compressed.get(name) or (found.get_dtype(), found.get_shape())
            return _DTYPES[kind], list(shape)

    def _told(self, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Return what sparsify said, when its layout is known and it is what was written.

        Raises:
            InputError: it is not.
        """
        if _TOLD not in metadata:
            if _CRC in metadata:
                raise self._damaged("its header lacks what was written")
            return {}
        text = metadata[_TOLD]
        try:
            known = json.loads(text)
            layout = known.get("layout", 1)
            newer = layout > LAYOUT
        except (ValueError, TypeError, AttributeError) as error:
            raise self._damaged(f"what its header says of it cannot be read ({first_line(error)})") from error
        if newer:
            raise InputError(
                f"{self.path} has layout {layout}, and this sparsify {__version__} knows layouts up to {LAYOUT}: what "
                "its tensors mean could have changed. Install the sparsify that wrote it or a newer one, or write it "
                "there as .pt, which any torch reads."
            )
        checked = _CRC in metadata or layout > 1
        if checked and metadata.get(_CRC) != f"{zlib.crc32(text.encode()):08x}":
            raise self._damaged("its header does not have the checksum that it was written with")
        return {key: value for key, value in known.items() if key not in ("version", "layout")}

    def _damaged(self, what: str) -> InputError:
        return InputError(f"{self.path} is damaged: {what}. Copy or make it again.")

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        from safetensors import SafetensorError

        try:
            yield
        except (SafetensorError, OSError, ValueError, LookupError) as error:
            raise InputError(
                f"{self.path} is not a whole .safetensors file: {first_line(error)}. Get a complete copy of it."
            ) from error
