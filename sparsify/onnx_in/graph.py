"""The graph of an ONNX file as plain data: steps in order, constants as arrays, inputs and outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from sparsify.errors import InputError

__all__ = ["LINEAR", "Input", "OnnxGraph", "Step", "graph_of", "torch_type"]

LINEAR = "sparsify.Linear"
"""The type of a product with a weight, and the bias behind it."""

_TYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}
_LISTS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


@dataclass(frozen=True)
class Input:
    """An input: its name, type, and sizes; a size that may vary is a name, or None when it has none."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Step:
    """One operator at work. An input that is left out is None; so is an output that nobody reads."""

    type: str
    name: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operator(self) -> str:
        """What a user's file calls it, as far as that is known: a product may have been a MatMul or a Gemm."""
        return "MatMul" if self.type == LINEAR else self.type


@dataclass(frozen=True)
class OnnxGraph:
    """A graph; `names` are the stems of parameters' names, where a file calls them otherwise than its layers."""

    opset: int
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    constants: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def uses(self) -> Counter[str]:
        """Return how often every value is read; being an output counts."""
        return Counter([*self.outputs, *(name for step in self.steps for name in step.inputs if name)])


def torch_type(number: Any, what: str) -> torch.dtype:
    """Return the type of torch for the number of a type of ONNX.

    Raises:
        InputError: torch, or sparsify, has no such type.
    """
    try:
        return _TYPES[ir.DataType(number)]
    except (ValueError, KeyError):
        raise InputError(f"{what} is of the type {number}, which sparsify does not read") from None


def graph_of(model: ir.Model) -> OnnxGraph:
    """Turn a checked model into plain data; constants that lie outside the file are mapped, not read.

    Raises:
        InputError: an input is of a type or a rank that sparsify does not read.
    """
    graph = model.graph
    constants = {name: _array(value.const_value, name) for name, value in graph.initializers.items()}
    steps: list[Step] = []
    renamed: dict[str, str] = {}
    for node in graph:
        inputs = tuple(
            None if value is None else renamed.get(str(value.name), str(value.name)) for value in node.inputs
        )
        outputs = [str(value.name) for value in node.outputs]
        if node.op_type == "Constant":
            constants[outputs[0]] = _constant(node)
        elif node.op_type == "Identity" and inputs[0] and not node.outputs[0].is_graph_output():
            if _is_merged(constants.get(inputs[0])):
                constants[outputs[0]] = constants[inputs[0]]
            else:
                renamed[outputs[0]] = inputs[0]
        else:
            named = tuple(name or None for name in outputs)
            name = node.name or next(iter(outputs), "")
            steps.append(Step(node.op_type, name, inputs, named, _attributes(node)))
    return OnnxGraph(
        opset=int(model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))),
        inputs=tuple(_input(value) for value in graph.inputs if value.name not in graph.initializers),
        outputs=tuple(str(value.name) for value in graph.outputs),
        steps=tuple(steps),
        constants=constants,
        metadata=dict(model.metadata_props),
    )


def _is_merged(array: Any) -> bool:
    """Whether a constant is the same number all along, such as biases before training.

    Torch's older exporter stores equal constants once and gives the others an Identity. Those are not tied.
    """
    return array is not None and array.dtype.kind == "f" and array.ndim == 1 and bool((array == array[:1]).all())


def _input(value: ir.Value) -> Input:
    name = str(value.name)
    if value.shape is None or value.dtype is None:
        raise InputError(f"the input {name!r:.100} has no type and shape")
    sizes = [size if isinstance(size, int) else size.value for size in value.shape]
    if any(isinstance(size, int) and size < 1 for size in sizes):
        raise InputError(f"the input {name!r:.100} has the shape {sizes}, and every size must be at least 1")
    return Input(name, torch_type(value.dtype, f"the input {name!r:.100}"), tuple(sizes))


def _array(tensor: ir.TensorProtocol | None, name: str) -> Any:
    if tensor is None:
        raise InputError(f"the constant {name!r:.100} has no value")
    torch_type(tensor.dtype, f"the constant {name!r:.100}")
    return tensor.numpy()


def _constant(node: ir.Node) -> Any:
    name, attribute = next(iter(node.attributes.items()), ("nothing", None))
    if attribute is not None and name == "value":
        return _array(attribute.as_tensor(), str(node.outputs[0].name))
    if attribute is None or name not in _LISTS:
        raise InputError(f"the constant {node.outputs[0].name!r:.100} is given as {name}, which sparsify does not read")
    return np.array(attribute.value, _LISTS[name])


def _attributes(node: ir.Node) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, attribute in node.attributes.items():
        value = attribute.value
        if isinstance(value, ir.TensorProtocol):
            value = _array(value, f"{name} of {node.name}")
        found[name] = list(value) if isinstance(value, (list, tuple)) else value
    return found
