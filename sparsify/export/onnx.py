"""ONNX: the program in evaluation mode, with a dynamic batch, checked in onnxruntime before the file appears."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsify import verify
from sparsify.errors import ExportError
from sparsify.export.deployment import deployed
from sparsify.export.drawn import drawn_weights
from sparsify.export.origins import name_constants
from sparsify.export.outputs import distinct, is_tensor, output_leaves, output_names
from sparsify.export.storage import parse_storage, save_model, size, stored, writing_model
from sparsify.export.tags import tag
from sparsify.program import Program, check_program, dynamic_sizes
from sparsify.tracing import export, quiet
from sparsify.version import __version__

__all__ = ["check_types", "export_onnx", "feed"]


def export_onnx(
    program: Program, path: str | Path, *, metadata: Mapping[str, str] | None = None, storage: str = "dense"
) -> dict[str, Any]:
    """Write a program as ONNX, after onnxruntime has computed what the program computes.

    The file is run on the example and, if the batch size is dynamic, on random inputs of another batch size. Inputs
    keep the names of the model's arguments; outputs are named by their place (`logits`, `output`). Weights of more than
    2 GiB are written into `NAME.data` beside the file.

    Args:
        program: exported in evaluation mode.
        path: of the file; it appears whole or not at all.
        metadata: further entries for the file's metadata.
        storage: of pruned weights: dense; packed, without zeros, which onnxruntime puts back when it loads the file;
            auto, packed where the file gets a tenth smaller; packed:values=fp16 or packed:values=int8 also round what
            is kept.

    Returns:
        What was checked: `bytes`, `opset`, `inputs`, `outputs`, `largest_difference`, and `storage`; where weights are
        packed also `dense_bytes`, `values`, `packed` (for each weight) and `rounding`.

    Raises:
        UsageError: there is no such storage, or it is no program.
        ExportError: the model cannot be written as ONNX, or onnxruntime computes something else.
        InputError: the path cannot be written.
    """
    check_program(program)
    check_types(program, path)
    chosen = parse_storage(storage)
    trials = verify.trial_inputs(program)
    with writing_model(path) as temporary:
        model = _written(program, temporary, {**_metadata(program), **(metadata or {})})
        difference = _check(program, temporary, trials)
        kept = stored(model, temporary, chosen, [feed(program, leaves) for leaves in trials], drawn_weights(program))
        return {
            "bytes": size(temporary),
            "opset": int(model.opset_imports.get("", 0)),
            "inputs": list(_tensor_inputs(program, program.example.leaves())),
            "outputs": output_names(program),
            "largest_difference": difference,
            **kept,
        }


def check_types(program: Program, path: str | Path) -> None:
    """Check before the work starts that ONNX has the types of a program's values.

    Args:
        program: what should be written.
        path: of the file, or what else is named in the error.

    Raises:
        ExportError: it has not, or there is nothing to compute.
    """
    leaves = [leaf for leaf in output_leaves(program.graph) if is_tensor(leaf)]
    if not leaves:
        raise ExportError(f"{path}: the model returns no tensor, so there is nothing that ONNX could compute.")
    types = {node.meta["val"].dtype for node in leaves}
    held = (*program.parameters.values(), *program.buffers.values(), *program.example.leaves())
    types |= {value.dtype for value in held if isinstance(value, Tensor)}
    if torch.bfloat16 in types:
        raise ExportError(
            f"{path}: onnxruntime has no bfloat16 on the CPU; convert the model before, with model.float()."
        )
    if any(dtype.is_complex for dtype in types):
        raise ExportError(
            f"{path}: ONNX has no complex tensors; let the model take and return real ones (torch.view_as_real)."
        )


def feed(program: Program, leaves: list[Any]) -> dict[str, Any]:
    """Return what onnxruntime is fed for flat inputs: names to arrays."""
    return {name: value.detach().cpu().numpy() for name, value in _tensor_inputs(program, leaves).items()}


def _tensor_inputs(program: Program, leaves: list[Any]) -> dict[str, Tensor]:
    names = program.names.inputs if program.names is not None else {}
    return {
        names.get(str(node.target), str(node.target)): leaf
        for node, leaf in zip(program.placeholders, leaves, strict=True)
        if isinstance(leaf, Tensor)
    }


def _metadata(program: Program) -> dict[str, str]:
    return {"sparsify.version": __version__, "sparsify.passes": json.dumps(list(program.history))}


def _written(program: Program, path: Path, metadata: Mapping[str, str]) -> Any:
    """Write a dense file; return what it holds."""
    import onnx

    try:
        with quiet(), torch.no_grad():  # with gradients, attention is decomposed for strides that it then does not have
            ready = deployed(program)
            dynamic = [dynamic_sizes(node) for node in program.placeholders]
            exported = export(ready.module(copy=False), ready.example, dynamic)
            onnx_program = torch.onnx.export(exported, dynamo=True, verbose=False)
            assert onnx_program is not None
            model = onnx_program.model
            _rename(model.graph, list(_tensor_inputs(program, program.example.leaves())), output_names(program))
            _name_batch(model)
            _strip(model)
            name_constants(model, ready.parameters)
            model.metadata_props.update(metadata)
            tag(model)
            model.producer_name, model.producer_version = "sparsify", __version__
            save_model(model, path)
        onnx.checker.check_model(str(path))
    except Exception as error:
        raise ExportError(f"The program cannot be written as ONNX: {_reason(error)}.") from error
    return model


def _rename(graph: Any, inputs: list[str], outputs: list[str]) -> None:
    """Give inputs and outputs their names; what was called so before gets another."""
    inner = [value for node in graph for value in node.outputs]
    names = distinct([value.name for value in inner], {*inputs, *outputs, *graph.initializers})
    for value, name in zip(inner, names, strict=True):
        value.name = name
    for name in {*inputs, *outputs} & set(graph.initializers):
        value = graph.initializers.pop(name)
        value.name = distinct([name], {*inputs, *outputs, *names, *graph.initializers})[0]
        graph.initializers[value.name] = value
    for value, name in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        value.name = name


def _name_batch(model: Any) -> None:
    """Call the symbolic batch size `batch`; inputs whose first sizes are independent get `batch_1` and so on."""
    import onnx_ir as ir

    found = [str(v.shape[0]) for v in model.graph.inputs if v.shape and isinstance(v.shape[0], ir.SymbolicDim)]
    names = {symbol: f"batch_{i}" if i else "batch" for i, symbol in enumerate(dict.fromkeys(found))}
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        if value.shape is not None and any(str(dim) in names for dim in value.shape):
            value.shape = ir.Shape([names.get(str(dim), dim) for dim in value.shape])


def _strip(model: Any) -> None:
    """Drop the exporter's notes on every node: they hold the user's source paths and can outweigh a small model."""
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()


def _check(program: Program, path: Path, trials: Sequence[list[Any]]) -> float:
    """Run the file beside the program; return the largest relative difference."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        double = any(value.dtype == torch.float64 for value in program.parameters.values())
        advice = " It has few kernels for float64; convert the model before, with model.float()." if double else ""
        raise ExportError(f"onnxruntime cannot load the exported model: {_reason(error)}.{advice}") from error
    worst = 0.0
    for leaves in trials:
        expected = [value for value in verify.outputs(program, leaves) if isinstance(value, Tensor)]
        known = {item.name for item in session.get_inputs()}
        try:
            found = session.run(None, {k: v for k, v in feed(program, leaves).items() if k in known})
        except Exception as error:
            raise ExportError(f"onnxruntime cannot run the exported model: {_reason(error)}.") from error
        for name, one, other in zip(output_names(program), expected, found, strict=True):
            gap = verify.difference(one.cpu(), torch.from_numpy(other))
            worst = max(worst, gap)
            if not gap <= 10 * verify.tolerance(one):
                raise ExportError(f"onnxruntime computes another {name}: it differs by {gap:.2g} (relative).")
    return worst


def _reason(error: BaseException) -> str:
    """Return what the innermost error says: torch's exporter wraps it in advice to its developers, in colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if found := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text):
        return f"torch's exporter cannot write {found[1]}; compute the same with other operators of torch"
    return re.sub(r"\x1b\[\d*m", "", text)[:300].rstrip(".")
