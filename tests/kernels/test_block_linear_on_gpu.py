"""What operators do with a GPU, seen without one: which kernels they take, also for gradients."""

import pytest
import torch
from helpers.matrices import mask_of
from torch.nn import functional as F

from sparsify.formats.block import BlockRows
from sparsify.formats.index import Index

pytest.importorskip("triton", reason="there are no GPU kernels without Triton")

from helpers.interpreted import on_gpu


def numbers(*shape, dtype=torch.float16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[0])).to(dtype)


def close(found, expected):
    return found.shape == expected.shape and torch.allclose(
        found.double(), expected.double(), rtol=0, atol=5e-3 * float(expected.abs().max())
    )


def test_tiles_forward_and_backward():
    stored = BlockRows.encode(numbers(40, 50), mask_of((40, 50), 0.01), 16, 16)
    x, bias, upstream = numbers(2, 3, 50).requires_grad_(), numbers(40).requires_grad_(), numbers(2, 3, 40)
    values = stored.values.requires_grad_()
    given = (x, values, stored.columns, stored.offsets, bias, "silu", 40)
    out, (of_x, of_values, _, _, of_bias, *_), used = on_gpu("block_linear", *given, upstream=upstream)
    assert used[0][0].startswith("block_linear float16 40x50 16x16 ")
    assert used[0][0].endswith(" batch 8")
    assert [way.partition(" ")[0] for way in used[0][1]] == ["tiles"] * 5 + ["batched", "dense"]
    x, weight, bias = (value.detach().double().requires_grad_() for value in (x, stored.decode(), bias))
    expected = F.silu(F.linear(x, weight, bias))
    expected.backward(upstream.double())
    assert close(out, expected)
    assert close(of_x, x.grad)
    assert close(of_bias, bias.grad)
    kept = BlockRows.encode(weight.grad, torch.ones(40, 50, dtype=torch.bool), 16, 16)
    assert close(of_values, kept.values[stored.rows() * 4 + stored.columns])


def test_tiles_of_odd_sizes_are_products_of_a_batch():
    stored = BlockRows.encode(numbers(9, 10), mask_of((9, 10), 0.1), 3, 5)
    x = numbers(4, 10)
    out, _, used = on_gpu("block_linear", x, stored.values, stored.columns, stored.offsets, None, "none", 9)
    assert used[0][1] == ["batched", "dense"]
    assert close(out, x.double() @ stored.decode().double().t())


@pytest.mark.parametrize(("shape", "tile"), [((9, 10), (3, 5)), ((40, 50), (16, 32)), ((32, 64), (32, 32))])
def test_every_way_to_compute_tiles_is_the_dense_layer(shape, tile):
    stored = BlockRows.encode(numbers(*shape), mask_of(shape, 0.05), *tile)
    x, bias = numbers(7, shape[1]), numbers(shape[0])
    given = (x, stored.values, stored.columns, stored.offsets, bias, "gelu", shape[0])
    expected = F.gelu(F.linear(x.double(), stored.decode().double(), bias.double()))
    for way in on_gpu("block_linear", *given)[2][0][1]:
        assert close(on_gpu("block_linear", *given, way=way)[0], expected)


@pytest.mark.parametrize(("batch", "dtype", "ways"), [
    (3, torch.float16, 6), (9, torch.float16, 1), (0, torch.float16, 1), (3, torch.float64, 1),
])  # fmt: skip
def test_kept_weights_with_their_columns(batch, dtype, ways):
    weight, mask = numbers(40, 50, dtype=dtype), mask_of((40, 50), 0.2)
    stored = Index.encode(weight, mask)
    x, bias = numbers(batch, 50, dtype=dtype) if batch else torch.zeros(0, 50, dtype=dtype), numbers(40, dtype=dtype)
    out, _, used = on_gpu("index_linear", x, stored.values, stored.columns, stored.offsets, bias, "relu")
    assert used[0][0] == f"index_linear {str(dtype)[6:]} 40x50 20% kept batch {1 << max(0, batch - 1).bit_length()}"
    assert len(used[0][1]) == ways
    if batch:
        assert close(out, F.linear(x.double(), stored.decode().double(), bias.double()).relu())


@pytest.mark.parametrize("operator", ["index_linear", "block_linear"])
def test_damaged_places_and_unknown_activations_are_refused(operator):
    weight, mask = numbers(32, 32), mask_of((32, 32), 0.2)
    stored = Index.encode(weight, mask) if operator == "index_linear" else BlockRows.encode(weight, mask, 16, 16)
    with pytest.raises(ValueError, match="activation='tanh' is none of"):
        on_gpu(operator, numbers(3, 32), stored.values, stored.columns, stored.offsets, None, "tanh")
    with pytest.raises(ValueError, match=r"the bias must be torch\.float16\[32\], not torch\.float16\[31\]"):
        on_gpu(operator, numbers(3, 32), stored.values, stored.columns, stored.offsets, numbers(31))
    stored.columns[0] = 100
    with pytest.raises(ValueError, match="the format is damaged"):
        on_gpu(operator, numbers(3, 32), stored.values, stored.columns, stored.offsets)
