"""Storage: how an ONNX file holds pruned weights, and the proof that a packed file is the dense one."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir

from sparsify.atomic import writing
from sparsify.errors import ExportError, InputError, UsageError, first_line
from sparsify.export.drawn import DrawnWeight
from sparsify.export.packing import pack, unpack
from sparsify.export.sparse_values import Numbers
from sparsify.export.tags import two_of_four
from sparsify.onnx_in.tensors import check_places
from sparsify.spec import build, nearest, parse_spec

__all__ = [
    "Storage",
    "move_model",
    "parse_storage",
    "save_model",
    "size",
    "stored",
    "unpacked_file",
    "writing_model",
]

MODES = ("dense", "packed", "auto")
_LIMIT = 2**31 - 2**20  # a protobuf file cannot be larger than 2 GiB
_DATA = ".data"  # what the name of the file with the weights of a larger model ends with
_WORTH = 0.9  # of the dense size; above, `auto` keeps a file that every tool reads


@dataclass(frozen=True)
class Storage:
    """How weights are stored.

    Attributes:
        mode: dense; packed, without their zeros; or auto, packed where that makes the file a tenth smaller.
        values: fp32 as they are; fp16 and int8 round kept values of packed weights.
    """

    mode: Literal["dense", "packed", "auto"] = "dense"
    values: Literal["fp32", "fp16", "int8"] = "fp32"


def parse_storage(text: str) -> Storage:
    """Return what a spec such as `packed` or `packed:values=int8` means.

    Raises:
        UsageError: there is no such mode or option, or values are rounded that are not packed.
    """
    mode, options = parse_spec(text)
    if mode not in MODES:
        raise UsageError(f"--storage {text}: there is no {mode!r}{nearest(mode, MODES)}. Use {', '.join(MODES)}.")
    if "mode" in options:
        raise UsageError(f"--storage {text}: write the mode first, such as packed:values=int8.")
    found = build(Storage, {"mode": mode, **options}, name="--storage")
    if found.mode == "dense" and found.values != "fp32":
        raise UsageError(f"--storage {text}: only values of packed weights are rounded; write packed:values=…")
    return found


@contextmanager
def writing_model(path: str | Path) -> Iterator[Path]:
    """As `sparsify.atomic.writing`, for a model whose weights may lie in a file beside it, `NAME.data`.

    Such a file that only the replaced model has goes with it.
    """
    beside = _beside(Path(path))
    with writing(path) as temporary:
        yield temporary
        stale = beside.is_file() and _reads(Path(path), beside.name)
        if _beside(temporary).exists():
            stale = False
            with writing(beside) as target:
                shutil.move(_beside(temporary), target)
    if stale:
        beside.unlink()


def move_model(source: Path, target: Path) -> None:
    """Rename a file to one on the same file system, of the same name; weights that lie beside a model go with it.

    As with `writing_model`, such weights that only the replaced model has go, too.

    Raises:
        OSError: it cannot be renamed.
    """
    new, old = _beside(source), _beside(target)
    stale = old.is_file() and not new.exists() and _reads(target, old.name)
    if new.exists():
        new.replace(old)
    source.replace(target)
    if stale:
        old.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(path.name + _DATA)


def _reads(path: Path, data: str) -> bool:
    """Whether a file is a model that has weights in the file `data` beside it."""
    try:
        held = ir.load(path).graph.initializers.values()
    except Exception:  # noqa: BLE001 - whatever it is, it is no model of ours
        return False
    tensors = [value.const_value for value in held]
    return any(isinstance(tensor, ir.ExternalTensor) and str(tensor.location) == data for tensor in tensors)


def save_model(model: ir.Model, path: Path) -> None:
    """Write a model; weights of more than 2 GiB, which a protobuf file cannot hold, into a file beside it."""
    held = [value.const_value for value in model.graph.initializers.values()]
    large = sum(tensor.nbytes for tensor in held if tensor is not None) > _LIMIT
    ir.save(model, path, external_data=path.name + _DATA if large else None)


def size(path: Path) -> int:
    """Return how many bytes a model takes, with the file beside it."""
    data = _beside(path)
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def stored(
    model: ir.Model,
    path: Path,
    storage: Storage,
    feeds: Sequence[Mapping[str, Any]],
    drawn: Mapping[str, DrawnWeight] = MappingProxyType({}),
) -> dict[str, Any]:
    """Put the packed form of a model in the place of the dense one, where the storage asks for it.

    The packed file is loaded in onnxruntime beside the dense one: it must be folded to as many operators of each kind,
    and compute the same bits, unless values are rounded.

    Args:
        model: is packed in place.
        path: of the dense file, which is replaced.
        storage: what is wanted; auto leaves 2:4 sparse weights dense, for TensorRT must see their zeros.
        feeds: inputs for onnxruntime.
        drawn: constants that come from a seed, as `pack` takes them; auto draws none, for only
            onnxruntime is known to read such a file.

    Returns:
        `storage`; where it is dense, `two_of_four`, the weights that auto left so; and, where it is packed,
        `dense_bytes`, `packed` (see `pack`), `values` and `rounding`, how far outputs are from the dense ones,
        relative to the largest.

    Raises:
        ExportError: onnxruntime folds the file differently or computes something else.
    """
    if storage.mode == "dense":
        return {"storage": "dense"}
    numbers: Numbers = "exact" if storage.values == "fp32" else storage.values
    every = storage.mode == "packed"
    kept = [] if every else two_of_four(model)
    as_dense: dict[str, Any] = {"storage": "dense", "two_of_four": kept} if kept else {"storage": "dense"}
    if not (found := pack(model, numbers, drawn if every else {}, kept)):
        return as_dense
    other = path.with_name("packed") / path.name
    other.parent.mkdir()
    save_model(model, other)
    before, after = size(path), size(other)
    if storage.mode == "auto" and after > _WORTH * before:
        shutil.rmtree(other.parent)
        return as_dense
    rounding = _difference(path, other, feeds, exact=numbers == "exact")
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    for file in other.parent.iterdir():
        shutil.move(file, path.parent / file.name)
    return {"storage": "packed", "values": storage.values, "dense_bytes": before, "packed": found, "rounding": rounding}


def _difference(dense: Path, packed: Path, feeds: Sequence[Mapping[str, Any]], *, exact: bool) -> float:
    """Return the largest relative difference between outputs of two files."""
    operators, outputs = zip(*(_loaded(path, feeds) for path in (dense, packed)), strict=True)
    if operators[0] != operators[1]:
        more = dict(operators[1] - operators[0])
        raise ExportError(f"onnxruntime does not fold the packed weights when it loads them: it keeps {more}.")
    worst = 0.0
    for one, other in zip(*outputs, strict=True):
        if exact and not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            raise ExportError("onnxruntime computes something else with packed weights than with dense ones.")
        if one.dtype.kind == "f" and one.size:
            gap = np.abs(one.astype(np.float64) - other).max() / (np.abs(one).max() or 1.0)
            worst = max(worst, float(gap))
    return worst


def _loaded(path: Path, feeds: Sequence[Mapping[str, Any]]) -> tuple[Counter[str], list[Any]]:
    """Return the operators that are left of a file once onnxruntime has loaded it, and its outputs."""
    import onnxruntime

    folder = path.parent / f"loaded-{path.parent.name}"
    folder.mkdir()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # that the optimised file is for this machine alone is what we want
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        operators = Counter(node.op_type for node in ir.load(folder / "optimised.onnx").graph)
    finally:
        shutil.rmtree(folder)
    known = {item.name for item in session.get_inputs()}
    runs = (session.run(None, {name: value for name, value in given.items() if name in known}) for given in feeds)
    return operators, [output for run in runs for output in run]


def unpacked_file(source: Path, target: Path) -> tuple[list[str], int, int]:
    """Write a packed ONNX file dense; return the names of what was packed, and the bytes of both files.

    Raises:
        InputError: the file cannot be read, nothing in it is packed, or it is damaged.
    """
    try:
        check_places(onnx.load_model(source, load_external_data=False), source)
        model = ir.load(source)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{source} cannot be opened: {error.strerror or error}.") from error
    except Exception as error:
        raise InputError(f"{source} is not an ONNX model: {first_line(error)}.") from error
    try:
        names = unpack(model)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    with writing_model(target) as temporary:
        save_model(model, temporary)
        return names, size(source), size(temporary)
