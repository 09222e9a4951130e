"""Zip archives that torch wrote: is one whole, and can torch.export rebuild the graph inside without running its code?

`torch.export.load` (2.13) runs code from many places of a `.pt2` archive: pickled example inputs, weights and constants
marked `use_pickle`, custom objects, compiled libraries, and texts of the graph's JSON (safe_graph.py). So everything in
the archive is looked at first, through the same reader and the same open file that torch then loads from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sparsify.errors import InputError, UntrustedError
from sparsify.safe_graph import LABEL, offences
from sparsify.safe_pickle import UNREADABLE, WAYS_OUT, brief, load_plain, only

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["Archive", "entries", "open_archive", "read_exported"]

_MOST_ENTRIES = 100_000
_MOST_TEXT = 256 * 2**20  # bytes of JSON or pickle: a hundred times what the largest models need
_EMPTY_VIEW = 2**26  # elements that a tensor may have beyond what its bytes hold (an expanded buffer)

_ENTRY = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|\.format_version"
    r"|\.storage_alignment|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json))"
    r"|extra/[^\x00-\x1f]*"
)
_MODEL, _INPUTS = "models/model.json", "data/sample_inputs/model.pt"
_PAYLOADS = {
    "data/weights/": ("data/weights/model_weights_config.json", re.compile(r"weight_\d+")),
    "data/constants/": ("data/constants/model_constants_config.json", re.compile(r"tensor_\d+")),
}
_OLD_MODEL = "serialized_exported_program.json"
_OUTPUT_MODULE = re.compile(r"\\\"(transformers\.(?:modeling_outputs|models\.\w+\.modeling_\w+))\.\w+\\\"")
_OPERATORS_OF = {"torchvision": "torchvision", "transformers": "transformers.integrations.moe"}


@dataclasses.dataclass(frozen=True)
class Archive:
    """An archive whose directory has been checked: names without their common folder, and sizes in bytes."""

    path: Path
    file: IO[bytes]
    reader: Any
    sizes: dict[str, int]

    def read(self, name: str) -> bytes:
        """Return the bytes of a text or pickle entry.

        Raises:
            InputError: there is no such entry, it is too large to be text, or its bytes are damaged.
        """
        if self.sizes.get(name, _MOST_TEXT + 1) > _MOST_TEXT:
            what = "is too large" if name in self.sizes else "is missing"
            raise InputError(f"{self.path} is damaged: its entry {name} {what}. Save the file again.")
        try:
            return bytes(self.reader.get_record(name))
        except UNREADABLE as error:
            raise InputError(f"{self.path} is damaged: its entry {name} cannot be read ({brief(error)}).") from error


def entries(file: IO[bytes], path: Path) -> list[zipfile.ZipInfo]:
    """Return the directory of a zip file that could have been written by torch: nothing overlaps or is compressed.

    Raises:
        InputError: the directory is damaged, or entries claim more bytes than the file has.
    """
    file.seek(0)
    try:
        infos = zipfile.ZipFile(file).infolist()
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is a damaged or incomplete zip archive: {brief(error)}. Copy it again.") from error
    names = [info.filename.casefold() for info in infos]
    if len(infos) > _MOST_ENTRIES or len(set(names)) < len(names):
        raise InputError(f"{path} has {len(infos)} zip entries, too many or of the same name; torch did not write it.")
    end = file.seek(0, 2)
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + 30 + len(info.filename) + info.compress_size > end:
            raise InputError(f"{path} is damaged: its entry {info.filename!r:.100} overlaps what follows it.")
        end = info.header_offset
    return infos


def open_archive(file: IO[bytes], path: Path) -> Archive:
    """Open a checked zip file with torch's reader, and see that both readers find the same in it.

    Raises:
        InputError: entries are compressed, the readers disagree, or torch's reader cannot open the file.
    """
    import torch

    infos = entries(file, path)
    if packed := next((info for info in infos if info.compress_type != zipfile.ZIP_STORED), None):
        raise InputError(
            f"{path} has the compressed entry {packed.filename!r:.100}; torch stores tensors as they are. "
            "If the archive was packed again with a zip tool, unpack it and zip it with compression level 0."
        )
    folder = infos[0].filename.partition("/")[0] + "/" if infos else ""
    expected = {info.filename.removeprefix(folder): info.file_size for info in infos}
    file.seek(0)
    try:
        reader = torch._C.PyTorchFileReader(file)
        found = {name: int(reader.get_record_size(name)) for name in reader.get_all_records()}
    except UNREADABLE as error:
        raise InputError(f"{path} is not an archive that torch can read: {brief(error)}.") from error
    if found != expected:
        raise InputError(f"{path} is damaged: two zip readers find different entries in it. Save the file again.")
    return Archive(path, file, reader, found)


def read_exported(file: IO[bytes], path: Path, *, trust: bool) -> ExportedProgram:
    """Load the graph of a `.pt2` archive.

    Args:
        file: open for reading; torch reads the same object.
        path: of the file, for messages.
        trust: skip the search for code; the archive must still be whole.

    Raises:
        UntrustedError: the archive has something that could run code; the message names the entry and the reason.
        InputError: the archive is damaged, or torch cannot rebuild its graph.
    """
    old = any(info.filename == _OLD_MODEL for info in entries(file, path))
    if old and not trust:
        raise UntrustedError(_refusal(path, "it has the layout of torch < 2.8, whose tensors are pickled"))
    if not old:
        archive = open_archive(file, path)
        if not trust and (problem := next(_problems(archive), None)):
            raise UntrustedError(_refusal(path, problem))
        if _MODEL not in archive.sizes:
            raise InputError(
                f"{path} holds no exported program with the name 'model', so there is no graph to work on."
            )
        _import_owners(archive.read(_MODEL))
    file.seek(0)
    try:
        return _load(file, trust)
    except Exception as error:
        raise InputError(
            f"{path} holds a graph that torch cannot rebuild: {brief(error)}. If it needs operators of another "
            "package, import that first and load from Python; if another version of torch wrote it, export it again."
        ) from error


def _refusal(path: Path, problem: str) -> str:
    return f"{path} could run code when it is loaded: {problem}. {WAYS_OUT}"


def _load(file: IO[bytes], trust: bool) -> ExportedProgram:
    import torch
    from torch.export.pt2_archive import _package

    if trust:
        return torch.export.load(file)
    # Not torch.export.load: when this fails, that one reads the file again as an old archive, through pickle.
    with only({}):
        return _package.load_pt2(file).exported_programs["model"]


def _import_owners(model: bytes) -> None:
    """Import the installed libraries whose output classes and operators the graph names, so that torch knows them."""
    text = model.decode(errors="replace")
    owners = set(_OUTPUT_MODULE.findall(text))
    owners |= {module for namespace, module in _OPERATORS_OF.items() if f"torch.ops.{namespace}." in text}
    for owner in sorted(owners):
        with contextlib.suppress(ImportError):  # torch then names what it misses
            importlib.import_module(owner)


def _problems(archive: Archive) -> Iterator[str]:
    """Yield what in the archive could run code. Everything that torch will read is read here first."""
    for name in archive.sizes:
        if name.startswith("data/aotinductor/"):
            yield f"its entry {name!r:.100} is compiled code"
        elif not _ENTRY.fullmatch(name):
            yield f"its entry {name!r:.100} is not a part of an exported program"
    for folder, (config, pattern) in _PAYLOADS.items():
        yield from _payload_problems(archive, folder, config, pattern)
    yield from (f"its entry {_MODEL}, {problem}" for problem in offences(_json(archive, _MODEL)))
    yield from _input_problems(archive)


def _json(archive: Archive, name: str) -> Any:
    try:
        return json.loads(archive.read(name).decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{archive.path} is damaged: its entry {name} is not JSON ({brief(error)}).") from error


def _payload_problems(archive: Archive, folder: str, config: str, pattern: re.Pattern[str]) -> Iterator[str]:
    document = _json(archive, config)
    yield from (f"its entry {config}, {problem}" for problem in offences(document))
    try:
        for name, payload in document["config"].items():
            if payload["use_pickle"] is not False or not pattern.fullmatch(payload["path_name"]):
                yield f"its entry {config} says that {name!r:.100} is pickled in {payload['path_name']!r:.100}"
                continue
            elements = math.prod(size["as_int"] for size in payload["tensor_meta"]["sizes"])
            stored = archive.sizes[folder + payload["path_name"]]
            if elements > max(stored, _EMPTY_VIEW) or (elements and not stored):
                raise InputError(f"{archive.path} has {stored} bytes for the {elements} values of {name!r:.100}.")
    except (TypeError, LookupError, AttributeError) as error:
        raise InputError(f"{archive.path} is damaged: {config} does not describe tensors ({brief(error)}).") from error


def _input_problems(archive: Archive) -> Iterator[str]:
    data = archive.read(_INPUTS)
    if not data:
        return
    try:
        inputs = load_plain(data, archive.path)
    except UntrustedError as error:
        yield f"its entry {_INPUTS} holds the example inputs as a pickle: {error}"
        return
    yield from (f"its entry {_INPUTS} has {key!r:.100} as a name of an input" for key in _strange_keys(inputs))


def _strange_keys(inputs: Any) -> Iterator[str]:
    """Yield the keys of example inputs that cannot be written into a module's source as they are."""
    pending = [inputs]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield from (key for key in value if not isinstance(key, int) and not LABEL.fullmatch(str(key)))
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)
