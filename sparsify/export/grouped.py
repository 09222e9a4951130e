"""Grouped products in ONNX: there is no such operator, so all groups multiply all rows and each row keeps its own.

That is as many times the arithmetic as there are groups (experts). It is exact, and static in shape.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from sparsify.axes.op import key_of

__all__ = ["without_grouped_products"]

aten = torch.ops.aten
_GROUPED = {"aten::_grouped_mm", "transformers::grouped_mm_fallback"}


def without_grouped_products(graph: fx.Graph) -> int:
    """Rewrite products of runs of rows with one weight each, in place; return how many there were.

    x [rows, k], weights [groups, k, n] and the ends of the runs [groups] become a product [groups, rows, n] of which
    each row takes that of the run that it is in.
    """
    found = [node for node in graph.nodes if key_of(node) in _GROUPED]
    for node in found:
        x, weight, ends = node.args[:3] if len(node.args) > 2 else (*node.args[:2], node.kwargs["offs"])

        def call(target: Any, *args: Any) -> fx.Node:
            return graph.call_function(target, args)

        with graph.inserting_before(node):
            every = call(aten.matmul.default, call(aten.unsqueeze.default, x, 0), weight)
            rows = call(aten.cumsum.default, call(aten.ones_like.default, call(aten.select.int, x, 1, 0)), 0)
            row, end = call(aten.unsqueeze.default, rows, 0), call(aten.unsqueeze.default, ends, 1)
            passed = call(aten.to.dtype, call(aten.lt.Tensor, end, row), torch.int64)
            group = call(aten.sum.dim_IntList, passed, [0])
            ids = call(aten.arange.default, weight.meta["val"].shape[0])
            own = call(aten.eq.Tensor, call(aten.unsqueeze.default, ids, 1), call(aten.unsqueeze.default, group, 0))
            chosen = call(aten.where.ScalarOther, call(aten.unsqueeze.default, own, 2), every, 0.0)
            node.replace_all_uses_with(call(aten.sum.dim_IntList, chosen, [0]))
        graph.erase_node(node)
    return len(found)
