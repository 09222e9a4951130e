"""Origins: constants of an exported model get the names of the parameters that they are.

The exporter turns matrices round and reshapes scales when it folds constants, and gives what comes out a number. Here
it gets its name back, and the file says which of the others nobody trains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from torch import Tensor

from sparsify.onnx_in.weights import BUFFERS, is_role

__all__ = ["name_constants"]


def name_constants(model: ir.Model, parameters: Mapping[str, Tensor]) -> None:
    """Rename constants that hold the values of a parameter, and note in the metadata which are not trained.

    Args:
        model: is changed in place.
        parameters: of the program, as they are exported.
    """
    graph = model.graph
    values = [*graph.inputs, *(output for node in graph for output in node.outputs)]
    taken = {value.name for value in values} | set(graph.initializers)
    missing = {name: value for name, value in parameters.items() if name not in taken and value.numel() > 1}
    for name, value in [item for item in graph.initializers.items() if item[0] not in parameters]:
        array = None if value.const_value is None else value.const_value.numpy()
        if array is None or array.dtype.kind != "f":
            continue
        found = next((key for key, other in missing.items() if _is_of(array, other)), None)
        if found is not None:
            del graph.initializers[name], missing[found]
            value.name = found
            graph.initializers[found] = value
    fixed = [name for name, value in graph.initializers.items() if name not in parameters and _is_fixed(value)]
    if fixed:
        model.metadata_props[BUFFERS] = json.dumps(fixed)


def _is_of(array: Any, parameter: Tensor) -> bool:
    """Whether an array holds a parameter, turned round or with dimensions of size one more or less."""
    if array.size != parameter.numel():
        return False
    own = parameter.detach().cpu().numpy()
    if own.ndim == array.ndim == 2 and own.shape == array.shape[::-1] and np.array_equal(array, own.T):
        return True
    sizes = [[size for size in shape if size != 1] for shape in (array.shape, own.shape)]
    return sizes[0] == sizes[1] and np.array_equal(array.reshape(own.shape), own)


def _is_fixed(value: ir.Value) -> bool:
    tensor = value.const_value
    floats = tensor is not None and tensor.dtype.is_floating_point() and len(tensor.shape) > 0
    made = "InstanceNormalization"  # of group norms: what scales and shifts it is the exporter's
    return floats and not any(is_role(u.node.op_type, u.idx) and u.node.op_type != made for u in value.uses())
