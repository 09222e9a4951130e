"""index_linear: the layer of the dense weight, forward and backward, of every shape, and well-behaved in torch."""

import itertools

import pytest
import torch
from helpers.matrices import kept_only, mask_of
from sparsify.kernels import index_linear as module
from sparsify.kernels.index_linear import index_linear
from torch.nn import functional as F

from sparsify.formats.index import Index

ACTIVATIONS = {"none": lambda z: z, "relu": torch.relu, "gelu": F.gelu, "silu": F.silu}
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float64: 1e-12}


def given(batch, shape, density=0.2, dtype=torch.float32, leading=()):
    generator = torch.Generator().manual_seed(0)
    weight, mask = torch.randn(shape, generator=generator), mask_of(shape, density)
    x = torch.randn(*leading, batch, shape[1], generator=generator)
    bias = torch.randn(shape[0], generator=generator)
    return [value.to(dtype) for value in (x, kept_only(weight, mask), bias)], mask


def stored(weight, mask):
    found = Index.encode(weight, mask)
    return found.values, found.columns, found.offsets


def assert_close(found, expected, dtype=torch.float32):
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    assert found.shape == expected.shape
    assert torch.allclose(found.double(), expected.double(), rtol=0, atol=TOLERANCE[dtype] * max(1.0, scale))


@pytest.mark.parametrize("shape", [(1, 1), (5, 13), (70, 33), (128, 64), (3, 300)])
@pytest.mark.parametrize("batch", [0, 1, 3, 8, 9, 16, 17, 32, 33, 100])
def test_it_is_the_dense_layer(batch, shape):
    for density in (0.0, 0.05, 0.5, 1.0):
        (x, weight, bias), mask = given(batch, shape, density)
        found = index_linear(x, *stored(weight, mask), bias)
        assert_close(found, F.linear(x.double(), weight.double(), bias.double()))
        assert_close(index_linear(x, *stored(weight, mask)), F.linear(x.double(), weight.double()))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_in_every_type(activation, dtype):
    (x, weight, bias), mask = given(5, (24, 40), dtype=dtype, leading=(2, 3))
    expected = ACTIVATIONS[activation](F.linear(x.double(), weight.double(), bias.double()))
    found = index_linear(x, *stored(weight, mask), bias, activation)
    assert found.dtype == dtype
    assert_close(found, expected, dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients(activation):
    (x, weight, bias), mask = given(6, (12, 20))
    values, columns, offsets = stored(weight, mask)
    upstream = torch.randn(6, 12, generator=torch.Generator().manual_seed(3))
    leaves = [leaf.clone().requires_grad_() for leaf in (x, values, bias)]
    index_linear(leaves[0], leaves[1], columns, offsets, leaves[2], activation).backward(upstream)
    dense = [leaf.double().requires_grad_() for leaf in (x, weight, bias)]
    ACTIVATIONS[activation](F.linear(*dense)).backward(upstream.double())
    for found, expected in zip(leaves, (dense[0].grad, dense[1].grad[mask], dense[2].grad), strict=True):
        assert_close(found.grad, expected)


@pytest.mark.parametrize("needed", itertools.product([False, True], repeat=3))
def test_only_gradients_that_are_needed(needed):
    (x, weight, bias), mask = given(4, (6, 8))
    values, columns, offsets = stored(weight, mask)
    leaves = [leaf.clone().requires_grad_(need) for leaf, need in zip((x, values, bias), needed, strict=True)]
    out = index_linear(leaves[0], leaves[1], columns, offsets, leaves[2], "silu")
    assert out.requires_grad == any(needed)
    if any(needed):
        out.sum().backward()
    assert [leaf.grad is not None for leaf in leaves] == list(needed)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_accepts_it(dtype, bias):
    (x, weight, row), mask = given(4, (6, 8), dtype=dtype)
    values, columns, offsets = stored(weight, mask)
    arguments = (x.requires_grad_(), values.requires_grad_(), columns, offsets, row.requires_grad_() if bias else None)
    torch.library.opcheck(index_linear, (*arguments, "gelu"))


class Layer(torch.nn.Module):
    def __init__(self, weight, mask, bias):
        super().__init__()
        values, columns, offsets = stored(weight, mask)
        self.values, self.bias = torch.nn.Parameter(values), torch.nn.Parameter(bias)
        self.register_buffer("columns", columns)
        self.register_buffer("offsets", offsets)

    def forward(self, x):
        return index_linear(x, self.values, self.columns, self.offsets, self.bias, "relu")


def test_it_is_exported_with_any_batch():
    (x, weight, bias), mask = given(4, (6, 8))
    program = torch.export.export(Layer(weight, mask, bias), (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    longer = torch.randn(11, 8)
    assert torch.equal(program.module()(longer), Layer(weight, mask, bias)(longer))


def test_it_is_compiled_and_trains():
    (x, weight, bias), mask = given(4, (6, 8))
    plain, other = Layer(weight, mask, bias), Layer(weight, mask, bias)
    for call in (plain, torch.compile(other, backend="aot_eager", fullgraph=True)):
        call(x).square().sum().backward()
    assert_close(other.values.grad, plain.values.grad)
    assert_close(other.bias.grad, plain.bias.grad)


def test_views_of_other_tensors():
    (x, weight, bias), mask = given(8, (6, 8))
    wide = torch.randn(8, 16)
    wide[:, ::2] = x
    found = index_linear(wide[:, ::2], *stored(weight, mask), bias)
    assert_close(found, F.linear(x.double(), weight.double(), bias.double()))
    assert_close(index_linear(x.t().contiguous().t(), *stored(weight, mask), bias), found)


def test_without_numba_it_is_the_same_layer(monkeypatch):
    (x, weight, bias), mask = given(7, (30, 21))
    with_it = index_linear(x, *stored(weight, mask), bias)
    monkeypatch.setattr(module, "_NUMBA", False)
    monkeypatch.setattr(module, "_on_cpu", None)
    assert_close(index_linear(x, *stored(weight, mask), bias), with_it)


def test_an_unknown_activation():
    (x, weight, bias), mask = given(2, (3, 4))
    with pytest.raises(ValueError, match="activation='tanh' is none of none, relu, gelu, silu"):
        index_linear(x, *stored(weight, mask), bias, "tanh")
