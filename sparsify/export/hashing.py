"""The values of `sparsify.kernels.seeded` in ONNX: a function of standard operators for each distribution.

A function is in a file once, and every drawn weight calls it. Integers are int32, whose products keep the lowest 32
bits; shifts go through uint32, for ONNX has none of signed numbers. (There are no products of uint32 in onnxruntime
1.20.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from sparsify.kernels._hash import DEVIATION, GOLDEN, HALVES, MEAN, ROUNDS, words

__all__ = ["DOMAIN", "drawing", "drawn_by"]

DOMAIN = "sparsify"  # of the functions


def drawing(distribution: str, opset: int) -> ir.Function:
    """Return the function that makes values of a distribution of a seed, an int32 without dimensions.

    Its attributes are `stream`, `size`, how many numbers are hashed (four for a normal value, one for others), and
    `factor`, by which whole numbers are multiplied; `drawn_by` has them.
    """
    body = _Body()
    seed = ir.val("seed")
    bits = body.hashed(seed, body.integer("stream"), body.integer("size"))
    units = {"uniform": body.uniform, "normal": body.normal, "sign": body.sign}[distribution](bits)
    made = body.node("Mul", units, body.attribute("factor", "value_float", ir.AttributeType.FLOAT))
    graph = ir.Graph([seed], [made], nodes=body.nodes, opset_imports={"": opset}, name=distribution)
    kinds = {"stream": ir.AttributeType.INT, "size": ir.AttributeType.INT, "factor": ir.AttributeType.FLOAT}
    attributes = [ir.Attr(name, kind, None) for name, kind in kinds.items()]
    return ir.Function(DOMAIN, distribution, "", graph=graph, attributes=attributes)


def drawn_by(distribution: str, scale: float, stream: int, count: int) -> dict[str, int | float]:
    """Return the attributes with which the function of a distribution makes `count` values."""
    factor = np.float32(scale / DEVIATION if distribution == "normal" else scale)
    return {"stream": _signed(stream), "size": count * words(distribution), "factor": float(factor)}


class _Body:
    """The nodes of a function."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def node(self, operator: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        given = {key: int(value) if isinstance(value, ir.DataType) else value for key, value in attributes.items()}
        return self._added(ir.node(operator, inputs, given))

    def constant(self, value: Any) -> ir.Value:
        return self.node("Constant", value=ir.tensor(np.asarray(value)))

    def attribute(self, name: str, kind: str, type_: ir.AttributeType) -> ir.Value:
        return self._added(ir.Node("", "Constant", [], [ir.RefAttr(kind, name, type_)]))

    def integer(self, name: str) -> ir.Value:
        return self.node("Cast", self.attribute(name, "value_int", ir.AttributeType.INT), to=ir.DataType.INT32)

    def _added(self, node: ir.Node) -> ir.Value:
        node.outputs[0].name = f"v{len(self.nodes)}"
        self.nodes.append(node)
        return node.outputs[0]

    def hashed(self, seed: ir.Value, stream: ir.Value, size: ir.Value) -> ir.Value:
        golden = self.constant(np.int32(_signed(GOLDEN)))
        first = self.mixed(self.node("BitwiseXor", seed, self.mixed(self.node("Mul", stream, golden))))
        second = self.mixed(self.node("Add", first, golden))
        places = self.node("Range", self.constant(np.int32(0)), size, self.constant(np.int32(1)))
        return self.mixed(self.node("Add", self.mixed(self.node("BitwiseXor", places, first)), second))

    def mixed(self, bits: ir.Value) -> ir.Value:
        for shift, factor in ROUNDS:
            bits = self.node("BitwiseXor", bits, self.shifted(bits, shift))
            if factor != 1:
                bits = self.node("Mul", bits, self.constant(np.int32(_signed(factor))))
        return bits

    def shifted(self, bits: ir.Value, places: int) -> ir.Value:
        unsigned = self.node("Cast", bits, to=ir.DataType.UINT32)
        moved = self.node("BitShift", unsigned, self.constant(np.uint32(places)), direction="RIGHT")
        return self.node("Cast", moved, to=ir.DataType.INT32)

    def uniform(self, bits: ir.Value) -> ir.Value:
        signed = self.node("Sub", self.shifted(bits, 8), self.constant(np.int32(1 << 23)))
        return self.node("Mul", self.real(signed), self.constant(np.float32(2.0**-23)))

    def normal(self, bits: ir.Value) -> ir.Value:
        """Sums are exact in float32, and onnxruntime adds floats faster than integers."""
        low = self.node("BitwiseAnd", bits, self.constant(np.int32(0xFFFF)))
        halves = self.real(self.node("Add", self.shifted(bits, 16), low))
        rows = self.node("Reshape", halves, self.constant(np.array([-1, HALVES // 2], np.int64)))
        total = self.node("ReduceSum", rows, self.constant(np.array([1], np.int64)), keepdims=0)
        return self.node("Sub", total, self.constant(np.float32(MEAN)))

    def sign(self, bits: ir.Value) -> ir.Value:
        twice = self.node("Mul", self.shifted(bits, 31), self.constant(np.int32(2)))
        return self.real(self.node("Sub", self.constant(np.int32(1)), twice))

    def real(self, integers: ir.Value) -> ir.Value:
        return self.node("Cast", integers, to=ir.DataType.FLOAT)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value
