"""Grouped products, rewritten for ONNX."""

import pytest
import torch
from torch import fx

from sparsify.export.grouped import without_grouped_products


@pytest.mark.parametrize("ends", [[3, 3, 7], [0, 0, 7], [7, 7, 7], [2, 5, 7]])
def test_every_row_takes_its_own_group(ends):
    torch.manual_seed(0)
    x, weight = torch.randn(7, 4), torch.randn(3, 4, 5)
    graph = fx.Graph()
    a, b, c = (graph.placeholder(name) for name in "abc")
    b.meta["val"] = weight
    product = graph.call_function(torch.ops.aten._grouped_mm.default, (a, b, c))
    graph.output(product)
    assert without_grouped_products(graph) == 1
    found = fx.GraphModule(torch.nn.Module(), graph)(x, weight, torch.tensor(ends, dtype=torch.int32))
    group = torch.bucketize(torch.arange(7), torch.tensor(ends), right=True)
    torch.testing.assert_close(found, torch.einsum("rk,rkn->rn", x, weight[group]))


def test_nothing_to_rewrite():
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    assert without_grouped_products(graph) == 0
