"""index_linear: the dense layer, forward and backward, of every shape, and well-behaved in torch."""

import pytest
import torch
from helpers.sparse_linear import SparseLinear

from sparsify.formats.index import Index
from sparsify.kernels.index_linear import index_linear


class TestIndexLinear(SparseLinear):
    operator = index_linear

    def stored(self, weight, mask):
        found = Index.encode(weight, mask)
        return found.values, found.columns, found.offsets


@pytest.mark.parametrize("damage", ["column", "negative", "offset", "order", "short"])
def test_damaged_places_are_refused(damage):
    weight, mask = torch.randn(6, 8), torch.rand(6, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    found = Index.encode(weight, mask)
    x, columns, offsets = torch.randn(2, 8), found.columns.clone(), found.offsets.clone()
    index_linear(x, found.values, columns, offsets)  # as it should be
    if damage in ("column", "negative"):
        columns[0] = 8 if damage == "column" else -1
    elif damage in ("offset", "order"):
        offsets[-1 if damage == "offset" else 2] += 1000
    with pytest.raises(ValueError, match="stored places do not fit"):
        index_linear(x[:, :4] if damage == "short" else x, found.values, columns, offsets)


def test_in_inference_mode():
    with torch.inference_mode():
        weight = torch.randn(6, 8)
        found = Index.encode(weight, weight > 0)
        x = torch.randn(2, 8)
        for _ in range(2):
            out = index_linear(x, found.values, found.columns, found.offsets)
        assert torch.allclose(out, x @ weight.relu().t(), atol=1e-5)


@pytest.mark.parametrize("bias", [torch.zeros(5), torch.zeros(6, dtype=torch.float64), torch.zeros(1, 6)])
def test_a_bias_that_does_not_fit_is_refused(bias):
    weight = torch.randn(6, 8)
    found = Index.encode(weight, weight > 0)
    with pytest.raises(ValueError, match=r"the bias must be torch\.float32\[6\]"):
        index_linear(torch.randn(2, 8), found.values, found.columns, found.offsets, bias)


def test_columns_of_another_type_are_refused():
    weight = torch.randn(6, 8)
    found = Index.encode(weight, weight > 0)
    with pytest.raises(ValueError, match="stored places do not fit"):
        index_linear(torch.randn(2, 8), found.values, found.columns.long(), found.offsets)
