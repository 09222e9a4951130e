"""Core ML: an `.mlpackage` for iOS 16 and macOS 13 or newer, with pruned weights as bitmasks. Extra `coreml`.

coremltools converts everywhere and runs models on macOS alone. So the package is not run before it appears: what is
checked is that its weights, read back from the written package, are those of the dense conversion bit for bit.
"""

from __future__ import annotations

import importlib
import importlib.util
import secrets
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from sparsify.errors import ExportError, InputError, UsageError, first_line
from sparsify.export.deployment import deployed
from sparsify.export.outputs import output_names
from sparsify.inputs import with_batch
from sparsify.program import Example, Program
from sparsify.tracing import export, quiet

__all__ = ["check_package", "check_tools", "export_coreml"]

_SPARSE = 0.1  # of zeros from which on a bitmask is smaller for sure: it costs a bit of 16 or 32
_LEAST = 1024  # values of a weight
_ZERO = float(np.finfo(np.float32).smallest_subnormal)  # what is smaller is zero
_COMPRESSED = "constexpr_sparse_to_dense"


def export_coreml(program: Program, path: str | Path) -> dict[str, Any]:
    """Write a program as a Core ML package, in float32, with pruned weights as a bitmask and the kept values.

    Sizes are fixed: the batch is 1 where it may vary, other sizes are those of the example. coremltools fuses batch
    norms into convolutions, so that their weights are others than the program's.

    Returns:
        What was checked: `bytes`, `inputs`, `outputs`, `sparse`, how many weights are stored as bitmasks, and `ran`,
        which is False: only a Mac can run the package.

    Raises:
        UsageError: coremltools is not installed.
        ExportError: coremltools cannot convert the program, or weights read back differ.
        InputError: the path cannot be written.
    """
    path = Path(path)
    check_tools()
    check_package(path)
    with tempfile.TemporaryDirectory(prefix="sparsify-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = Path(folder) / path.name
        try:
            with quiet(), torch.no_grad():
                tools = importlib.import_module("coremltools")
                dense = _converted(tools, program)
                sparse = _with_bitmasks(tools, dense)
                sparse.save(str(written))
        except Exception as error:
            raise ExportError(
                f"coremltools cannot convert the program: {type(error).__name__}: {first_line(error)}."
            ) from error
        with quiet():
            _compare(tools, dense, written)
        _place(written, path)
    types = [o.type for f in sparse.get_spec().mlProgram.functions.values() for b in f.block_specializations.values()
             for o in b.operations]  # fmt: skip
    described = sparse.get_spec().description
    return {
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "inputs": [item.name for item in described.input],
        "outputs": [item.name for item in described.output],
        "sparse": types.count(_COMPRESSED),
        "ran": False,
    }


def check_package(path: Path) -> None:
    """Check before the work starts that a package can be written: a package may be replaced, nothing else may.

    Raises:
        InputError: something else is there, or its folder cannot be written.
    """
    if path.exists() and not (path / "Manifest.json").is_file():
        raise InputError(f"{path} exists and is no Core ML package; name another.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path} cannot be written: the folder {path.parent} does not exist.")


def check_tools() -> None:
    """Check before the work starts that coremltools is installed.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("coremltools") is None:
        raise UsageError(
            "Writing .mlpackage needs coremltools: pip install 'sparsify-fx[coreml]'. Without it write .onnx."
        )


def _converted(tools: Any, program: Program) -> Any:
    ready = deployed(program)
    structure = pytree.tree_structure((ready.example.args, dict(ready.example.kwargs)))
    exported = export(ready.module(copy=False), Example(*pytree.tree_unflatten(with_batch(ready, 1), structure)))
    model = tools.convert(
        exported.run_decompositions({}),
        minimum_deployment_target=tools.target.iOS16,
        compute_precision=tools.precision.FLOAT32,
        skip_model_load=True,
    )
    spec = model.get_spec()
    for item, name in zip(list(spec.description.output), output_names(program), strict=True):
        if item.name != name:
            tools.utils.rename_feature(spec, item.name, name)
    return tools.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)


def _with_bitmasks(tools: Any, dense: Any) -> Any:
    coreml = importlib.import_module("coremltools.optimize.coreml")
    option = coreml.OpThresholdPrunerConfig(
        threshold=_ZERO, minimum_sparsity_percentile=_SPARSE, weight_threshold=_LEAST
    )
    return coreml.prune_weights(dense, coreml.OptimizationConfig(global_config=option))


def _compare(tools: Any, dense: Any, path: Path) -> None:
    """Compare the weights of a written package with those of the dense model."""
    coreml = importlib.import_module("coremltools.optimize.coreml")
    again = coreml.decompress_weights(tools.models.MLModel(str(path), skip_model_load=True))
    held = [_weights(coreml, model) for model in (dense, again)]
    if [value.shape for value in held[0]] != [value.shape for value in held[1]] or not all(
        np.array_equal(one, other) for one, other in zip(*held, strict=True)
    ):
        raise ExportError(f"{path.name}: weights read back from the package differ from those that were written.")


def _weights(coreml: Any, model: Any) -> list[Any]:
    found = coreml.get_weights_metadata(model, weight_threshold=1).values()
    return [item.val for item in found if item.val.dtype.kind == "f"]


def _place(source: Path, target: Path) -> None:
    """Move a folder to its place; one that is there is replaced at the last moment."""
    beside = target.parent / f".{target.name}.{secrets.token_hex(8)}"
    try:
        shutil.copytree(source, beside)
        if target.exists():
            old = beside.with_name(f"{beside.name}.old")
            target.rename(old)
            beside.rename(target)
            shutil.rmtree(old)
        else:
            beside.rename(target)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise InputError(f"{target} cannot be written: {error.strerror or error}.") from error
