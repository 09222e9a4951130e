"""Transposed weights: torch's exporter stores the weight of a product transposed, under a name that says nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from sparsify.export.outputs import distinct
from sparsify.program import Program

__all__ = ["TRANSPOSED", "name_transposed"]

TRANSPOSED = "_transposed"  # what is behind the weight's name in that of its transpose


def name_transposed(graph: ir.Graph, program: Program) -> list[str]:
    """Call constants that are the transpose of a parameter `<parameter>_transposed`, in place; return the new names."""
    known = {name: value.detach().cpu().numpy() for name, value in program.parameters.items() if value.ndim == 2}
    named = {*program.parameters, *program.buffers, *program.aliases}
    renamed = []
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if name in named or tensor is None or len(tensor.shape) != 2:
            continue
        rows, columns = tensor.shape
        alike = (other for other, array in known.items() if array.shape == (columns, rows))
        found = next((other for other in alike if _is_transpose(tensor, known[other])), None)
        if found is not None:
            taken = {*graph.initializers, *(output.name or "" for node in graph for output in node.outputs)}
            new = distinct([f"{found}{TRANSPOSED}"], taken)[0]
            del graph.initializers[name]
            value.name = new
            graph.initializers[new] = value
            renamed.append(new)
    return renamed


def _is_transpose(tensor: ir.TensorProtocol, other: np.ndarray[Any, Any]) -> bool:
    held = tensor.numpy()
    return held.dtype == other.dtype and np.array_equal(held[:1], other.T[:1]) and np.array_equal(held, other.T)
