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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("damage", ["column", "negative", "offset", "order", "short"])
def test_damaged_places_are_refused(damage, dtype):
    weight, mask = torch.randn(6, 8, dtype=dtype), torch.rand(6, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    found = Index.encode(weight, mask)
    x, columns, offsets = torch.randn(2, 8, dtype=dtype), found.columns.clone(), found.offsets.clone()
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


def test_values_of_another_length_are_refused():
    weight = torch.randn(6, 8)
    found = Index.encode(weight, weight > 0)
    for values in (found.values[:-1], found.values.repeat(2), found.values[:, None]):
        with pytest.raises(ValueError, match="stored places do not fit"):
            index_linear(torch.randn(2, 8), values, found.columns, found.offsets)


@pytest.mark.parametrize("inputs", [0, 32767, 32768, 70000])
def test_few_and_many_columns(inputs):
    generator = torch.Generator().manual_seed(inputs)
    weight = torch.randn(5, inputs, generator=generator)
    mask = torch.rand(5, inputs, generator=generator) < 0.001
    mask[:, -1:] = True
    found = Index.encode(weight, mask)
    for batch in (1, 3, 20):
        x = torch.randn(batch, inputs, generator=generator)
        expected = x.double() @ torch.where(mask, weight, 0.0).double().t()
        assert torch.allclose(index_linear(x, found.values, found.columns, found.offsets).double(), expected, atol=1e-4)


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("batch", [1, 4, 20, 40])
def test_columns_in_any_order(batch, ascending):
    generator = torch.Generator().manual_seed(batch)
    weight = torch.randn(70, 5000, generator=generator)
    mask = torch.rand(70, 5000, generator=generator) < 0.05
    mask[3] = False
    found = Index.encode(weight, mask)
    order = torch.arange(len(found.values))
    if not ascending:
        parts = order.split(found.offsets.diff().tolist())
        order = torch.cat([part[torch.randperm(len(part), generator=generator)] for part in parts])
    x, bias = torch.randn(batch, 5000, generator=generator), torch.randn(70, generator=generator)
    result = index_linear(x, found.values[order], found.columns[order], found.offsets, bias, "relu")
    expected = torch.relu(x.double() @ torch.where(mask, weight, 0.0).double().t() + bias)
    assert torch.allclose(result.double(), expected, atol=1e-3)  # 250 products of numbers around 1


@pytest.mark.parametrize("batch", [1, 4, 20])
def test_what_is_pruned_is_not_multiplied(batch):
    weight = torch.ones(3, 12)
    mask = torch.zeros(3, 12, dtype=torch.bool)
    mask[:, :5] = True
    found = Index.encode(weight, mask)
    x = torch.ones(batch, 12)
    x[:, 5:] = torch.inf  # infinity times zero would be NaN
    assert index_linear(x, found.values, found.columns, found.offsets).unique().tolist() == [5.0]
    found.values[5] = torch.nan  # nor does it reach other rows
    assert index_linear(x, found.values, found.columns, found.offsets).isnan().sum(0).tolist() == [0, batch, 0]


def test_relu_keeps_what_is_no_number():
    weight = torch.eye(3)
    found = Index.encode(weight, weight > 0)
    x = torch.tensor([[torch.nan, -1.0, 2.0]])
    result = index_linear(x, found.values, found.columns, found.offsets, None, "relu")
    assert torch.equal(result.nan_to_num(nan=9.0), torch.tensor([[9.0, 0.0, 2.0]]))


def test_places_are_kept_for_as_long_as_they_are_right():
    first, second = torch.eye(4), torch.eye(4).flip(0)
    x = torch.arange(4.0)[None]
    found, other = Index.encode(first, first > 0), Index.encode(second, second > 0)
    assert index_linear(x, found.values, found.columns, found.offsets).tolist() == [[0.0, 1.0, 2.0, 3.0]]
    found.columns.copy_(other.columns)
    assert index_linear(x, found.values, found.columns, found.offsets).tolist() == [[3.0, 2.0, 1.0, 0.0]]
    found.values.mul_(2)
    assert index_linear(x, found.values, found.columns, found.offsets).tolist() == [[6.0, 4.0, 2.0, 0.0]]
