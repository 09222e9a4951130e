"""Packing: pruned weights of an ONNX model stored without their zeros, and rebuilt by standard operators.

A runtime that folds constants, as onnxruntime does when it loads a file, has the dense weights again before the first
run. Nothing of it needs an operator of our own, and never NonZero, whose result has a size that is not known before.
Places that are frozen at values from a seed get these again (`sparsify.export.drawn`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from sparsify.errors import InputError
from sparsify.export.drawn import DRAWN, SEED_VALUE, Drawn, DrawnWeight, noted, read_drawn
from sparsify.export.hashing import DOMAIN, drawing, drawn_by
from sparsify.export.sparse_values import Numbers, SparseValues, fits
from sparsify.kernels._hash import words

__all__ = ["PACKED", "pack", "unpack"]

PACKED = "sparsify.packed"  # the entry of the metadata that says what is packed
_LAYOUT = 1
_LEAST = 1024  # values that a weight must have to be worth a dozen nodes
_FOLDING = 1 << 30  # bytes that onnxruntime lets a folded constant have
_DRAWING = 4 << 30  # bytes that onnxruntime may need to draw all weights, for it keeps what it folds on the way
_WORD = 80  # bytes for each 32-bit number that is hashed: measured, 20 times a weight in normal distribution
_OPSET = 18  # from which on there is BitwiseAnd
_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE}


def pack(
    model: ir.Model,
    numbers: Numbers = "exact",
    drawn: Mapping[str, DrawnWeight] = MappingProxyType({}),
    dense: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Pack the weights of a model, in place, that get smaller.

    Args:
        model: with opset 18 or later.
        numbers: exact, or the type to which kept values of float32 weights are rounded.
        drawn: weights that come from a seed, by the names of constants.
        dense: names of constants that stay as they are.

    Returns:
        Of each packed weight `name`, `kind`, `shape`, `kept`, `bytes`, `dense_bytes`, `drawn`, whether what is not
        kept comes from a seed, and `error`, what rounding changed at most, relative to the largest weight.
    """
    if int(model.opset_imports.get("", 0)) < _OPSET:
        return []
    found, shared, left = [], _Shared(model.graph), _DRAWING
    made: dict[str, Drawn] = {}
    for name, value, whole in list(_weights(model.graph)):
        if name in dense:
            continue
        own: Numbers = numbers if whole.dtype == np.float32 else "exact"
        source, factors = _source(drawn, name, whole, left)
        array, kept = (whole, None) if source is None else (source.whole(), source.kept)
        sparse = SparseValues.encode(array, numbers=own, kept=kept)
        if sparse.bytes + 256 > 0.95 * whole.nbytes or not fits(whole.shape, len(sparse.values), _FOLDING):
            continue
        _Rebuilt(model.graph, shared, name, value).write(sparse, None if source is None else source.how, factors)
        if source is not None:
            made[name] = source.how
            left -= _needed(source)
        error = 0.0 if own == "exact" else _error(sparse.decode(whole.dtype, None if kept is None else array), array)
        found.append({"name": name, "kind": sparse.kind, "shape": list(whole.shape),
                      "kept": int(np.count_nonzero(whole if kept is None else kept)), "bytes": sparse.bytes,
                      "dense_bytes": whole.nbytes, "drawn": source is not None, "error": error})  # fmt: skip
    if found:
        shared.write()
        tensors = {item["name"]: item["kind"] for item in found}
        model.metadata_props[PACKED] = json.dumps({"layout": _LAYOUT, "tensors": tensors})
    if made:
        for distribution in sorted({one.distribution for one in made.values()}):
            function = drawing(distribution, int(model.opset_imports[""]))
            model.functions[function.identifier()] = function
        model.opset_imports[DOMAIN] = 1
        model.metadata_props[DRAWN] = noted(made)
    return found


def _source(drawn: Mapping[str, DrawnWeight], name: str, dense: Any, left: int) -> tuple[DrawnWeight | None, Any]:
    """Return how a constant is drawn, if it is, and what multiplies it; a tied weight has a second, nameless copy.

    What would take more memory than is left for drawing is stored.
    """
    for weight in [drawn[name]] if name in drawn else drawn.values():
        if weight.kept.size == dense.size and weight.how.fits(dense.size, _FOLDING) and _needed(weight) <= left:
            found = weight.turned_like(dense)
            if found is not None:
                return found[0], found[1] if found[1].size > 1 else None
    return None, None


def _needed(weight: DrawnWeight) -> int:
    """Return how many bytes onnxruntime needs to draw a weight."""
    return _WORD * words(weight.how.distribution) * int(weight.kept.size)


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
    drawn = read_drawn(model)
    values = {value.name: value for node in model.graph for value in node.outputs}
    for name, kind in tensors.items():
        if name not in values:
            raise InputError(f"The packed weight {name} is not in the graph: the file is damaged.")
        _restore(model.graph, name, values[name], kind, drawn.get(name))
    _drop_unused(model.graph)
    del model.metadata_props[PACKED]
    if drawn:
        del model.metadata_props[DRAWN], model.opset_imports[DOMAIN]
        for identifier in [known for known in model.functions if known[0] == DOMAIN]:
            del model.functions[identifier]
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
        self._dtype: ir.DataType = value.const_value.dtype  # type: ignore[union-attr]
        self._nodes: list[ir.Node] = []

    def write(self, sparse: SparseValues, drawn: Drawn | None, factors: Any) -> None:
        count = int(np.prod(sparse.shape))
        values = self._values(sparse)
        rebuilt = self._of_bits if sparse.kind == "bitmask" else self._of_gaps
        flat = rebuilt(sparse, values, count, drawn)
        weight = self._node("Reshape", flat, self._constant("shape", np.array(sparse.shape, np.int64)))
        if factors is not None:
            weight = self._node("Mul", weight, self._constant("factors", factors))
        if drawn is not None and drawn.transposed:
            weight = self._node("Transpose", weight)
        weight.dtype, weight.shape = self._dtype, self._old.shape
        del self._graph.initializers[self._name]
        ir.convenience.replace_all_uses_with(self._old, weight)
        self._old.name, weight.name = None, self._name
        self._graph.insert_before(self._graph[0], self._nodes)

    def _values(self, sparse: SparseValues) -> ir.Value:
        values = self._constant("values", sparse.values)
        if ir.DataType.from_numpy(sparse.values.dtype) == self._dtype:
            return values
        values = self._node("Cast", values, to=self._dtype)
        if sparse.scale == 1:
            return values
        return self._node("Mul", values, self._constant("scale", np.array(sparse.scale, np.float32)))

    def _of_bits(self, sparse: SparseValues, values: ir.Value, count: int, drawn: Drawn | None) -> ir.Value:
        """The k-th kept value is the k-th of the values, behind a zero for all that are not kept."""
        bits = self._node(
            "BitwiseAnd", self._constant("bitmask", sparse.places[:, None]),
            self._shared.get("bits", np.array([1 << n for n in range(8)], np.uint8)),
        )  # fmt: skip
        flags = self._node("Cast", self._node("Cast", bits, to=ir.DataType.BOOL), to=ir.DataType.INT32)
        flat = self._node("Reshape", flags, self._shared.get("flat", np.array([-1], np.int64)))
        number = self._node("CumSum", flat, self._shared.get("axis", np.array(0, np.int64)))
        found = self._node("Gather", values, self._node("Mul", number, flat))
        if drawn is not None:
            found = self._where(self._node("Cast", flat, to=ir.DataType.BOOL), found, drawn, 8 * len(sparse.places))
        if count % 8:
            start = self._shared.get("start", np.array([0], np.int64))
            found = self._node("Slice", found, start, self._constant("size", np.array([count], np.int64)))
        return found

    def _of_gaps(self, sparse: SparseValues, values: ir.Value, count: int, drawn: Drawn | None) -> ir.Value:
        gaps = self._node("Cast", self._constant("gaps", sparse.places), to=ir.DataType.INT64)
        behind = self._node("CumSum", gaps, self._shared.get("axis", np.array(0, np.int64)))
        places = self._node("Sub", behind, self._shared.get("one", np.array(1, np.int64)))
        if drawn is not None:
            return self._node("ScatterElements", self._cast(self._drawn(drawn, count)), places, values, axis=0)
        zero = np.zeros(1, self._dtype.numpy())
        size = self._constant("size", np.array([count], np.int64))
        zeros = self._node("ConstantOfShape", size, value=ir.tensor(zero))
        return self._node("ScatterElements", zeros, places, values, axis=0)

    def _where(self, trained: ir.Value, found: ir.Value, drawn: Drawn, count: int) -> ir.Value:
        """Choose; onnxruntime does that with float32 and float64 alone, and float16 comes back as it was."""
        if self._dtype != ir.DataType.FLOAT16:
            return self._node("Where", trained, found, self._cast(self._drawn(drawn, count)))
        wide = self._node("Cast", found, to=ir.DataType.FLOAT)
        return self._cast(self._node("Where", trained, wide, self._drawn(drawn, count)))

    def _drawn(self, drawn: Drawn, count: int) -> ir.Value:
        """Return drawn values as float32."""
        seed = self._shared.get(SEED_VALUE.split(".")[1], np.array(np.uint32(drawn.seed)).view(np.int32))
        attributes = drawn_by(drawn.distribution, drawn.scale, drawn.stream, count)
        return self._node(drawn.distribution, seed, domain=DOMAIN, **attributes)

    def _cast(self, value: ir.Value) -> ir.Value:
        return value if self._dtype == ir.DataType.FLOAT else self._node("Cast", value, to=self._dtype)

    def _constant(self, kind: str, array: Any) -> ir.Value:
        name = f"{self._name}.{kind}"
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        self._graph.initializers[name] = value
        return value

    def _node(self, operator: str, *inputs: ir.Value, domain: str = "", **attributes: Any) -> ir.Value:
        number = len(self._nodes)
        given = {key: int(value) if isinstance(value, ir.DataType) else value for key, value in attributes.items()}
        node = ir.node(operator, inputs, given, domain=domain, name=f"{self._name}.unpack_{number}")
        node.outputs[0].name = f"{self._name}.unpacked_{number}"
        self._nodes.append(node)
        return node.outputs[0]


def _restore(graph: ir.Graph, name: str, value: ir.Value, kind: str, drawn: Drawn | None) -> None:
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
    dtype = value.dtype.numpy()
    array = sparse.decode(dtype, None if drawn is None else drawn.values(shape, dtype))
    if drawn is not None:
        array = drawn.turned(array * stored("factors") if f"{name}.factors" in graph.initializers else array)
    dense = ir.val(name, const_value=ir.tensor(array, name=name))
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
