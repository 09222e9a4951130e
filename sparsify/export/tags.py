"""Tags: which weights of an ONNX model are 2:4 sparse, for those who build engines of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["SPARSITY", "tag", "two_of_four"]

SPARSITY = "sparsify.sparsity"  # the entry of the metadata
_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE}


def tag(model: ir.Model) -> list[str]:
    """Note in a model's metadata, as `{"2:4": [names]}`, which weights are 2:4 sparse; return their names.

    That is: at most two of four consecutive values are not zero along the axis that is summed over, which has a
    multiple of four places: of convolutions the input channels, at every place of the kernel, of products the inner
    dimension.
    TensorRT looks for this by itself when it is told to (`--sparsity=enable`).
    """
    found = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in _FLOATS or len(tensor.shape) < 2:
            continue
        axes = {_summed(use.node, use.idx, len(tensor.shape)) for use in value.uses()}
        if len(axes) == 1 and (axis := axes.pop()) is not None and _is_two_of_four(tensor.numpy(), axis):
            found.append(name)
    if found:
        model.metadata_props[SPARSITY] = json.dumps({"2:4": found})
    return found


def two_of_four(model: ir.Model) -> list[str]:
    """Return the names that `tag` has noted."""
    known: list[str] = json.loads(model.metadata_props.get(SPARSITY, '{"2:4": []}'))["2:4"]
    return known


def _summed(node: ir.Node, place: int, dims: int) -> int | None:
    """Return the axis of an operand that an operator sums over, or None where that is not a single one."""
    if node.op_type == "Conv" and place == 1:
        return 1
    if node.op_type == "MatMul":
        return dims - 2 if place == 1 else dims - 1
    if node.op_type == "Gemm" and place in (0, 1):
        name = "transB" if place == 1 else "transA"
        turned = name in node.attributes and bool(node.attributes[name].as_int())
        return int(turned == (place == 1))
    return None


def _is_two_of_four(array: Any, axis: int) -> bool:
    size = array.shape[axis]
    if not size or size % 4:
        return False
    fours = np.moveaxis(array != 0, axis, -1).reshape(-1, 4)
    return bool(fours.any() and (fours.sum(1) <= 2).all())
