"""ONNX files written by hand: one operator, or a few, with inputs of our choosing."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from sparsify import verify
from sparsify.load import load
from sparsify.onnx_in.graph import Input
from sparsify.onnx_in.importing import read_onnx
from sparsify.onnx_in.network import OnnxNetwork
from sparsify.program import Program

KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64,
         np.dtype(np.int32): TensorProto.INT32, np.dtype(np.bool_): TensorProto.BOOL,
         np.dtype(np.float64): TensorProto.DOUBLE, np.dtype(np.float16): TensorProto.FLOAT16,
         np.dtype(np.uint8): TensorProto.UINT8}  # fmt: skip


def rand(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Return normal numbers."""
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(dtype)


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: list[str],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """Return a model; the type and shape of outputs are left to whoever loads it."""
    graph = helper.make_graph(
        nodes,
        "by_hand",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model as it is, however wrong."""
    path.write_bytes(model.SerializeToString())
    return path


def imported(model: onnx.ModelProto, path: Path, inputs: str | None = None) -> Program:
    """Write a model and load it; loading compares it with onnxruntime."""
    return load(save(model, path), inputs)


def run(operator: str, given: list[Any], path: Path, **more: Any) -> OnnxNetwork:
    """Read a file with one operator, as `one` writes it, and compare it with onnxruntime at two batch sizes."""
    network = read_onnx(save(_one(operator, given, **more), path))
    session = None
    for batch in (2, 3):
        arrays = {item.name: _values(item, batch) for item in network.onnx.inputs}
        with torch.no_grad():
            found = network(*map(torch.from_numpy, arrays.values()))
        session = session or onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        tensors = list(found.values()) if isinstance(found, dict) else [found]
        for wanted, tensor in zip(session.run(None, arrays), tensors, strict=True):
            expected = torch.from_numpy(wanted)
            assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype)
            # as at export: rounding, of sums in another order
            assert verify.difference(expected, tensor) <= 10 * verify.tolerance(expected)
    return network


def _values(item: Input, batch: int) -> np.ndarray:
    shape = [size if isinstance(size, int) else batch for size in item.shape]
    if item.dtype.is_floating_point:
        return rand(*shape, seed=batch).astype(str(item.dtype).removeprefix("torch."))
    return np.random.default_rng(batch).integers(0, 2, shape).astype(str(item.dtype).removeprefix("torch."))


def one(operator: str, given: list[Any], path: Path, **more: Any) -> Program:
    """Write a file with one operator and load it as a program; arguments are those of `_one`."""
    return imported(_one(operator, given, **more), path)


def _one(
    operator: str,
    given: list[Any],
    *,
    opset: int = 17,
    outputs: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    """Return a model with one operator.

    Args:
        operator: of ONNX.
        given: for each input an array, which becomes a constant, a shape with `"batch"` first or a `(dtype, shape)` for
            an input of the file, or None.
        opset: of the operator.
        outputs: how many it has.
        attributes: of the operator.
    """
    inputs, constants, names = {}, {}, []
    for number, value in enumerate(given):
        name = f"in{number}"
        names.append("" if value is None else name)
        if isinstance(value, np.ndarray):
            constants[name] = value
        elif isinstance(value, tuple):
            inputs[name] = (KINDS[np.dtype(value[0])], value[1])
        elif value is not None:
            inputs[name] = (TensorProto.FLOAT, value)
    found = [f"out{number}" for number in range(outputs)]
    node = helper.make_node(operator, names, found, name=f"the_{operator}", **attributes)
    return model_of([node], inputs, found, constants, opset)
