"""Packing: pruned weights of an ONNX model stored without their zeros, and rebuilt by standard operators.

A runtime that folds constants, as onnxruntime does when it loads a file, has the dense weights again before the first
run. Nothing of it needs an operator of our own, and never NonZero, whose result has a size that is not known before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from sparsify.errors import InputError
from sparsify.export.sparse_values import Numbers, SparseValues, fits

__all__ = ["PACKED", "pack", "unpack"]

PACKED = "sparsify.packed"  # the entry of the metadata that says what is packed
_LAYOUT = 1
_LEAST = 1024  # values that a weight must have to be worth a dozen nodes
_FOLDING = 1 << 30  # bytes that onnxruntime lets a folded constant have
_OPSET = 18  # from which on there is BitwiseAnd
_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE}


def pack(model: ir.Model, numbers: Numbers = "exact") -> list[dict[str, Any]]:
    """Pack the weights of a model, in place, that get smaller.

    Args:
        model: with opset 18 or later.
        numbers: exact, or the type to which kept values of float32 weights are rounded.

    Returns:
        Of each packed weight `name`, `kind`, `shape`, `kept`, `bytes`, `dense_bytes`, and `error`, what rounding
        changed at most, relative to the largest weight.
    """
    if int(model.opset_imports.get("", 0)) < _OPSET:
        return []
    found, shared = [], _Shared(model.graph)
    for name, value, dense in list(_weights(model.graph)):
        own: Numbers = numbers if dense.dtype == np.float32 else "exact"
        sparse = SparseValues.encode(dense, numbers=own)
        if sparse.bytes + 256 > 0.95 * dense.nbytes or not fits(dense.shape, len(sparse.values), _FOLDING):
            continue
        _Rebuilt(model.graph, shared, name, value).write(sparse)
        error = 0.0 if own == "exact" else _error(sparse.decode(dense.dtype), dense)
        kept = int(np.count_nonzero(dense))
        found.append({"name": name, "kind": sparse.kind, "shape": list(dense.shape), "kept": kept,
                      "bytes": sparse.bytes, "dense_bytes": dense.nbytes, "error": error})  # fmt: skip
    if found:
        shared.write()
        tensors = {item["name"]: item["kind"] for item in found}
        model.metadata_props[PACKED] = json.dumps({"layout": _LAYOUT, "tensors": tensors})
    return found


def _error(rounded: Any, dense: Any) -> float:
    largest = float(np.abs(dense).max(initial=0)) or 1.0
    return float(np.abs(rounded - dense).max(initial=0)) / largest


def unpack(model: ir.Model) -> list[str]:
    """Store packed weights as they are again, in place; return their names.

    Raises:
        InputError: nothing is packed, a newer sparsify packed it, or the packed parts are damaged.
    """
    if PACKED not in model.metadata_props:
        raise InputError("No weight of this model is packed: its metadata has no entry sparsify.packed.")
    try:
        entry = json.loads(model.metadata_props[PACKED])
        layout, tensors = int(entry["layout"]), dict(entry["tensors"])
    except (ValueError, TypeError, KeyError):
        raise InputError(f"The entry {PACKED} of the metadata cannot be read: the file is damaged.") from None
    if layout > _LAYOUT:
        raise InputError(
            f"The weights are packed in layout {layout}, and this sparsify knows layouts up to {_LAYOUT}: install a "
            "newer one."
        )
    values = {value.name: value for node in model.graph for value in node.outputs}
    for name, kind in tensors.items():
        if name not in values:
            raise InputError(f"The packed weight {name} is not in the graph: the file is damaged.")
        _restore(model.graph, name, values[name], kind)
    _drop_unused(model.graph)
    del model.metadata_props[PACKED]
    return list(tensors)


def _weights(graph: ir.Graph) -> Iterator[tuple[str, ir.Value, Any]]:
    """Yield the constants that could be packed."""
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in _FLOATS or tensor.size < _LEAST:
            continue
        taken = any(other.startswith(f"{name}.") for other in graph.initializers)  # what is stored is called so
        if not (taken or value.is_graph_output() or value.is_graph_input()):
            yield name, value, tensor.numpy()


class _Shared:
    """Constants that all packed weights read."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made: dict[str, ir.Value] = {}

    def get(self, name: str, array: Any) -> ir.Value:
        full = f"sparsify.{name}"
        if full not in self._made:
            self._made[full] = ir.val(full, const_value=ir.tensor(np.asarray(array), name=full))
        return self._made[full]

    def write(self) -> None:
        for name, value in self._made.items():
            self._graph.initializers[name] = value


class _Rebuilt:
    """Writes the nodes that rebuild one weight before everything else in a graph."""

    def __init__(self, graph: ir.Graph, shared: _Shared, name: str, value: ir.Value) -> None:
        self._graph, self._shared, self._name, self._old = graph, shared, name, value
        self._nodes: list[ir.Node] = []

    def write(self, sparse: SparseValues) -> None:
        dtype = self._old.const_value.dtype  # type: ignore[union-attr]
        count = int(np.prod(sparse.shape))
        values = self._values(sparse, dtype)
        rebuilt = self._of_bits if sparse.kind == "bitmask" else self._of_gaps
        flat = rebuilt(sparse, values, count)
        weight = self._node("Reshape", flat, self._constant("shape", np.array(sparse.shape, np.int64)))
        weight.dtype, weight.shape = dtype, ir.Shape(sparse.shape)
        del self._graph.initializers[self._name]
        ir.convenience.replace_all_uses_with(self._old, weight)
        self._old.name, weight.name = None, self._name
        self._graph.insert_before(self._graph[0], self._nodes)

    def _values(self, sparse: SparseValues, dtype: ir.DataType) -> ir.Value:
        values = self._constant("values", sparse.values)
        if ir.DataType.from_numpy(sparse.values.dtype) == dtype:
            return values
        values = self._node("Cast", values, to=dtype)
        if sparse.scale == 1:
            return values
        return self._node("Mul", values, self._constant("scale", np.array(sparse.scale, np.float32)))

    def _of_bits(self, sparse: SparseValues, values: ir.Value, count: int) -> ir.Value:
        """The k-th kept value is the k-th of the values, behind a zero for all that are not kept."""
        bits = self._node(
            "BitwiseAnd", self._constant("bitmask", sparse.places[:, None]),
            self._shared.get("bits", np.array([1 << n for n in range(8)], np.uint8)),
        )  # fmt: skip
        flags = self._node("Cast", self._node("Cast", bits, to=ir.DataType.BOOL), to=ir.DataType.INT32)
        flat = self._node("Reshape", flags, self._shared.get("flat", np.array([-1], np.int64)))
        number = self._node("CumSum", flat, self._shared.get("axis", np.array(0, np.int64)))
        found = self._node("Gather", values, self._node("Mul", number, flat))
        if count % 8:
            start = self._shared.get("start", np.array([0], np.int64))
            found = self._node("Slice", found, start, self._constant("size", np.array([count], np.int64)))
        return found

    def _of_gaps(self, sparse: SparseValues, values: ir.Value, count: int) -> ir.Value:
        gaps = self._node("Cast", self._constant("gaps", sparse.places), to=ir.DataType.INT64)
        behind = self._node("CumSum", gaps, self._shared.get("axis", np.array(0, np.int64)))
        places = self._node("Sub", behind, self._shared.get("one", np.array(1, np.int64)))
        zero = np.zeros(1, self._old.const_value.dtype.numpy())  # type: ignore[union-attr]
        size = self._constant("size", np.array([count], np.int64))
        zeros = self._node("ConstantOfShape", size, value=ir.tensor(zero))
        return self._node("ScatterElements", zeros, places, values, axis=0)

    def _constant(self, kind: str, array: Any) -> ir.Value:
        name = f"{self._name}.{kind}"
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        self._graph.initializers[name] = value
        return value

    def _node(self, operator: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        number = len(self._nodes)
        given = {key: int(value) if isinstance(value, ir.DataType) else value for key, value in attributes.items()}
        node = ir.node(operator, inputs, given, name=f"{self._name}.unpack_{number}")
        node.outputs[0].name = f"{self._name}.unpacked_{number}"
        self._nodes.append(node)
        return node.outputs[0]


def _restore(graph: ir.Graph, name: str, value: ir.Value, kind: str) -> None:
    """Put a constant in the place of a value that is rebuilt."""

    def stored(what: str) -> Any:
        held = graph.initializers.get(f"{name}.{what}")
        if held is None or held.const_value is None:
            raise InputError(f"{name}.{what} is missing: the file is damaged.")
        return held.const_value.numpy()

    if kind not in ("bitmask", "gaps"):
        raise InputError(f"{name} is packed as {kind!r:.40}, which is not a layout: the file is damaged.")
    scale = float(stored("scale")) if f"{name}.scale" in graph.initializers else 1.0
    shape = tuple(int(size) for size in stored("shape"))
    if value.dtype not in _FLOATS or any(size < 0 for size in shape) or not fits(shape, 0, _FOLDING):
        raise InputError(f"{name} has no type or shape that is packed: the file is damaged.")
    sparse = SparseValues(kind, shape, stored(kind).reshape(-1), stored("values"), scale)  # type: ignore[arg-type]
    dense = ir.val(name, const_value=ir.tensor(sparse.decode(value.dtype.numpy()), name=name))
    value.name = None
    ir.convenience.replace_all_uses_with(value, dense)
    graph.initializers[name] = dense


def _drop_unused(graph: ir.Graph) -> None:
    """Take out nodes and constants that nothing reads."""
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]
