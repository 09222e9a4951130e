"""What is deployed: the program with nothing but plain operators and dense weights, which returns tensors."""

from __future__ import annotations

from typing import Any

from torch.utils import _pytree as pytree

from sparsify.embedding import folded
from sparsify.export.grouped import without_grouped_products
from sparsify.export.outputs import is_tensor, output_leaves
from sparsify.lowering.raising import raised
from sparsify.masking import baked
from sparsify.program import Program

__all__ = ["deployed"]


def deployed(program: Program) -> Program:
    """Return the program as other formats can have it.

    Masks and embedded weights are written out, sparse layers and grouped products are dense ones, and the output is a
    plain tuple of tensors.
    """
    program = baked(folded(raised(program)))
    graph = program.copy_graph()
    output = next(node for node in reversed(list(graph.nodes)) if node.op == "output")
    tensors = tuple(filter(is_tensor, output_leaves(graph)))
    without_grouped_products(graph)
    output.args = (tensors,)
    codegen: Any = graph._codegen
    codegen.pytree_info = codegen.pytree_info._replace(out_spec=pytree.tree_structure(tensors))
    return program.with_graph(graph)
