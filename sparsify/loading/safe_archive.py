"""`.pt2` archives: can torch.export rebuild the graph inside without running code of the file?

`torch.export.load` (2.13) runs code from many places of a `.pt2` archive: pickled example inputs, weights and constants
marked `use_pickle`, custom objects, compiled libraries, and texts of the graph's JSON (safe_graph.py). So everything in
the archive is looked at first, through the same reader and the same open file that torch then loads from.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sparsify.errors import InputError, UntrustedError
from sparsify.loading.safe_graph import LABEL, offences
from sparsify.loading.safe_pickle import WAYS_OUT, brief, load_plain, only
from sparsify.loading.safe_zip import Archive, entries, open_archive
from sparsify.program import PROVENANCE
from sparsify.version import __version__

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["LAYOUT", "read_exported"]

LAYOUT = 1  # of what sparsify writes beside the graph, and of its own operators in it

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
_OURS = "extra/sparsify.json"
_OLD_MODEL = "serialized_exported_program.json"
_OUTPUT_MODULE = re.compile(r"\\\"(transformers\.(?:modeling_outputs|models\.\w+\.modeling_\w+))\.\w+\\\"")
_OPERATORS_OF = {"torchvision": "torchvision", "transformers": "transformers.integrations.moe"}


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
    known = None
    if not old:
        archive = open_archive(file, path)
        known = _provenance(archive) if _OURS in archive.sizes else None
        if not trust and (problem := next(_problems(archive), None)):
            raise UntrustedError(_refusal(path, problem))
        if _MODEL not in archive.sizes:
            raise InputError(
                f"{path} holds no exported program with the name 'model', so there is no graph to work on."
            )
        _import_owners(archive.read(_MODEL))
    file.seek(0)
    try:
        exported = _load(file, trust)
    except Exception as error:
        raise InputError(
            f"{path} holds a graph that torch cannot rebuild: {brief(error)}. If it needs operators of another "
            "package, import that first and load from Python; if another version of torch wrote it, export it again."
        ) from error
    if known is not None:
        exported.graph_module.meta[PROVENANCE] = known
    return exported


def _provenance(archive: Archive) -> dict[str, Any]:
    """Return what sparsify wrote beside the graph: passes, notes, and whether the example is random."""
    document = _json(archive, _OURS)
    if isinstance(document, dict):
        if isinstance(layout := document.get("layout", 1), int) and layout > LAYOUT:
            raise InputError(
                f"{archive.path} has layout {layout}, and this sparsify {__version__} knows layouts up to {LAYOUT}: "
                "what its graph means could have changed. Install the sparsify that wrote it or a newer one."
            )
        passes, notes, synthetic = (document.get(key, ()) for key in ("passes", "notes", "synthetic"))
        texts = [*passes, *notes] if isinstance(passes, list) and isinstance(notes, list) else [None]
        names = document.get("names")
        if all(isinstance(item, str) for item in texts) and isinstance(synthetic, bool) and _are_names(names):
            return {"passes": passes, "notes": notes, "synthetic": synthetic, "names": names}
    raise InputError(f"{archive.path} is damaged: its entry {_OURS} does not say what became of the program.")


def _are_names(names: Any) -> bool:
    """Whether this is what sparsify writes of the names in an ONNX file, or nothing."""
    if names is None:
        return True
    inputs, outputs = (names.get("inputs"), names.get("outputs")) if isinstance(names, dict) else (None, None)
    return (
        isinstance(inputs, dict)
        and isinstance(outputs, list)
        and all(isinstance(text, str) for text in [*inputs.values(), *outputs])
    )


def _refusal(path: Path, problem: str) -> str:
    return f"{path} could run code when it is loaded: {problem}. {WAYS_OUT}"


def _load(file: IO[bytes], trust: bool) -> ExportedProgram:
    import torch
    from torch.export.pt2_archive import _package

    with _quiet("torch.export"), _quiet("torch._export"):
        if trust:
            return torch.export.load(file)
        # Not torch.export.load: when this fails, that one reads the file again as an old archive, through pickle.
        with only({}):
            return _package.load_pt2(file).exported_programs["model"]


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Keep torch from printing whole tracebacks of what it then tries in another way."""
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.ERROR)
    try:
        yield
    finally:
        found.setLevel(level)


def _import_owners(model: bytes) -> None:
    """Import the installed libraries whose output classes and operators the graph names, so that torch knows them."""
    text = model.decode(errors="replace")
    owners = set(_OUTPUT_MODULE.findall(text))
    owners |= {module for namespace, module in _OPERATORS_OF.items() if f"torch.ops.{namespace}." in text}
    for owner in sorted(owners):
        with contextlib.suppress(ImportError, RuntimeError):  # torch then names what it misses
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
    pending, seen = [inputs], set()
    while pending:
        value = pending.pop()
        if id(value) in seen:  # data may share parts of itself many times
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            yield from (key for key in value if not isinstance(key, int) and not LABEL.fullmatch(str(key)))
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)
