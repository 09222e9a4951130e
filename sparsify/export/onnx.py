"""ONNX: the program in evaluation mode, with a dynamic batch, checked in onnxruntime before the file appears."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsify import verify
from sparsify.atomic import writing
from sparsify.capture import export
from sparsify.errors import ExportError
from sparsify.export.outputs import output_names
from sparsify.program import Program
from sparsify.version import __version__

__all__ = ["export_onnx", "feed"]

_LIMIT = 2**31 - 2**20  # a protobuf file cannot be larger than 2 GiB


def export_onnx(program: Program, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write a program as ONNX, after onnxruntime has computed what the program computes.

    The file is run on the example and, if the batch size is dynamic, on random inputs of another batch size. Inputs
    keep the names of the model's arguments; outputs are named by their place (`logits`, `output`).

    Args:
        program: exported in evaluation mode.
        path: of the file; it appears whole or not at all.
        metadata: further entries for the file's metadata.

    Returns:
        What was checked: `bytes`, `opset`, `inputs`, `outputs`, `largest_difference`.

    Raises:
        ExportError: the model cannot be written as ONNX, or onnxruntime computes something else.
        InputError: the path cannot be written.
    """
    if (size := sum(v.numel() * v.element_size() for v in program.parameters.values())) > _LIMIT:
        raise ExportError(f"{path}: {size / 2**30:.1f} GiB of parameters do not fit into one ONNX file (2 GiB).")
    with writing(path) as temporary:
        opset = _write(program, temporary, {**_metadata(program), **(metadata or {})})
        difference = _check(program, temporary)
        return {
            "bytes": temporary.stat().st_size,
            "opset": opset,
            "inputs": [node.name for node, _ in _tensor_inputs(program, program.example.leaves())],
            "outputs": output_names(program),
            "largest_difference": difference,
        }


def feed(program: Program, leaves: list[Any]) -> dict[str, Any]:
    """Return what onnxruntime is fed for flat inputs: names to arrays."""
    return {node.name: value.detach().cpu().numpy() for node, value in _tensor_inputs(program, leaves)}


def _tensor_inputs(program: Program, leaves: list[Any]) -> list[tuple[torch.fx.Node, Tensor]]:
    return [
        (node, leaf)
        for node, leaf in zip(program.placeholders, leaves, strict=True)
        if isinstance(leaf, Tensor) and node.users
    ]


def _metadata(program: Program) -> dict[str, str]:
    return {"sparsify.version": __version__, "sparsify.passes": json.dumps(list(program.history))}


def _write(program: Program, path: Path, metadata: Mapping[str, str]) -> int:
    import onnx

    try:
        with _quiet():
            exported = export(program.module(copy=False), program.example, program.dynamic_batch)
            onnx_program = torch.onnx.export(exported, dynamo=True, verbose=False)
            assert onnx_program is not None
            model = onnx_program.model
            _rename(model.graph.outputs, output_names(program))
            _name_batch(model)
            _strip(model)
            model.metadata_props.update(metadata)
            model.producer_name, model.producer_version = "sparsify", __version__
            onnx_program.save(path)
        onnx.checker.check_model(str(path))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"The program cannot be written as ONNX: {type(error).__name__}: {reason}.") from error
    return int(model.opset_imports.get("", 0))


def _rename(values: Any, names: list[str]) -> None:
    for value, name in zip(values, names, strict=False):
        value.name = name


def _name_batch(model: Any) -> None:
    """Call the symbolic batch size `batch`."""
    import onnx_ir as ir

    symbols = {str(v.shape[0]) for v in model.graph.inputs if v.shape and isinstance(v.shape[0], ir.SymbolicDim)}
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        if value.shape is not None and symbols & {str(dim) for dim in value.shape}:
            value.shape = ir.Shape(["batch" if str(dim) in symbols else dim for dim in value.shape])


def _strip(model: Any) -> None:
    """Drop the exporter's notes on every node: they hold the user's source paths and can outweigh a small model."""
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()


def _check(program: Program, path: Path) -> float:
    """Run the file beside the program; return the largest relative difference."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"onnxruntime cannot load the exported model: {_first_line(error)}.") from error
    worst = 0.0
    for leaves in verify.trial_inputs(program):
        expected = [value for value in verify.outputs(program, leaves) if isinstance(value, Tensor)]
        known = {item.name for item in session.get_inputs()}
        try:
            found = session.run(None, {k: v for k, v in feed(program, leaves).items() if k in known})
        except Exception as error:
            raise ExportError(f"onnxruntime cannot run the exported model: {_first_line(error)}.") from error
        for name, one, other in zip(output_names(program), expected, found, strict=False):
            gap = verify.difference(one.cpu(), torch.from_numpy(other))
            worst = max(worst, gap)
            if not gap <= 10 * verify.tolerance(one):
                raise ExportError(f"onnxruntime computes another {name}: it differs by {gap:.2g} (relative).")
    return worst


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter talks on stdout, by warnings and by logging; results and errors are what a user needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
