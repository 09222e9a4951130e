"""Kept weights in windows of x, which processors with AVX-512 multiply with: the arrangement, and when it is taken."""

import pytest
import torch
from helpers.matrices import mask_of
from torch.nn import functional as F

from sparsify.formats.index import Index
from sparsify.kernels import _on_cpu
from sparsify.kernels._remembered import forget, settled
from sparsify.kernels._windows import ALIGNED, LANES, STEPS, WINDOWS, arrange_windows
from sparsify.kernels.index_linear import index_linear

pytest.importorskip("numba")
from sparsify.kernels._window_products import window_product
from sparsify.kernels._window_sums import available

needs_avx512 = pytest.mark.skipif(not available(), reason="the processor has no AVX-512")
SHAPES = [(1, 1), (16, 32), (17, 33), (40, 16), (100, 250), (64, 1024)]


def encoded(shape, density):
    generator = torch.Generator().manual_seed(shape[0])
    weight = torch.where(mask_of(shape, density), torch.randn(shape, generator=generator), 0.0)
    return weight, Index.encode(weight, weight != 0)


def uneven(outputs=200, inputs=128):
    """Return a weight of which every eighth row is dense."""
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))
    weight[torch.arange(outputs) % 8 != 0, 12:] = 0.0
    return weight, Index.encode(weight, weight != 0)


def arranged(found, inputs):
    windows = arrange_windows(found.values, found.columns, found.offsets, inputs)
    assert windows is not None
    return windows


def written_out(windows, inputs):
    """Return the matrix that windows are of, read step by step; no weight may be there twice."""
    matrix = torch.zeros(windows.outputs, inputs)
    order = windows.order.tolist() or list(range(windows.outputs))
    for place in range(len(windows.starts) - 1):
        for turn in range(int(windows.starts[place]), int(windows.starts[place + 1])):
            for step in range(STEPS):
                base = ALIGNED * int(windows.bases[turn, step * WINDOWS // STEPS])
                for lane in windows.values[turn, step].nonzero()[:, 0].tolist():
                    column = base + (int(windows.codes[turn, lane]) >> 5 * step) % 32
                    row = order[place * LANES + lane]
                    assert matrix[row, column] == 0
                    matrix[row, column] = windows.values[turn, step, lane]
    return matrix


@pytest.mark.parametrize("density", [0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_every_weight_is_in_a_window_once(shape, density):
    weight, found = encoded(shape, density)
    assert torch.equal(written_out(arranged(found, shape[1]), shape[1]), weight)


def test_rows_of_unlike_lengths_are_sorted():
    weight, found = uneven()
    windows = arranged(found, weight.shape[1])
    counts = (weight != 0).sum(1)
    assert counts[windows.order.long()].diff().min() >= 0
    assert torch.equal(written_out(windows, weight.shape[1]), weight)
    places = LANES * STEPS * len(windows.codes)
    assert len(found.values) > 0.6 * places  # as they are dense rows keep 15 lanes waiting: a third of it
    assert not len(arranged(encoded((64, 1024), 0.1)[1], 1024).order)


def test_few_weights_and_columns_in_disorder_are_left_to_the_other_kernel():
    _, found = encoded((64, 1024), 0.01)
    assert arrange_windows(found.values, found.columns, found.offsets, 1024) is None
    _, found = encoded((8, 4096), 0.5)
    assert arrange_windows(found.values, found.columns.flip(0), found.offsets, 4096) is None
    assert arrange_windows(found.values, found.columns, found.offsets, ALIGNED * ((1 << 16) + 2)) is None
    nothing = torch.zeros(5, dtype=torch.int32)
    assert arrange_windows(torch.zeros(0), nothing[:0], nothing, 32) is None


@needs_avx512
@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6, 33])
@pytest.mark.parametrize("shape", [*SHAPES, None])
def test_the_product_is_the_dense_one(shape, batch, rectified):
    weight, found = uneven() if shape is None else encoded(shape, 0.6)
    windows = arrange_windows(found.values, found.columns, found.offsets, weight.shape[1])
    if windows is None:
        assert weight.numel() == 1
        return
    generator = torch.Generator().manual_seed(batch)
    x, bias = torch.randn(batch, weight.shape[1], generator=generator), torch.randn(len(weight), generator=generator)
    for given in (bias, None):
        expected = F.linear(x.double(), weight.double(), None if given is None else given.double())
        result = window_product(windows, x, given, rectified)
        assert torch.allclose(result.double(), expected.relu() if rectified else expected, atol=1e-4)


@needs_avx512
@pytest.mark.parametrize("odd", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_is_not_told(odd):
    weight, found = encoded((40, 64), 0.5)
    x = torch.ones(3, 64)
    x[1, 7] = odd
    windows = arranged(found, 64)
    assert window_product(windows, x, None, False) is None
    result = index_linear(x, found.values, found.columns, found.offsets)
    assert torch.equal(result[1].isfinite(), weight[:, 7] == 0)
    assert window_product(windows, torch.ones(3, 64), torch.full((40,), odd), True) is None


@needs_avx512
def test_both_kernels_are_taken_where_they_should_be(monkeypatch):
    row_product, product = _on_cpu._kernels()
    taken = []
    kernels = (
        lambda *given: taken.append("rows") or row_product(*given),
        lambda *given: taken.append("windows") or product(*given),
    )
    monkeypatch.setattr(_on_cpu, "_kernels", lambda: kernels)
    _, found = encoded((64, 256), 0.3)
    values = torch.nn.Parameter(found.values)
    with torch.no_grad():
        for batch in (1, 8, 9):
            index_linear(torch.randn(batch, 256), values, found.columns, found.offsets)
    assert taken == ["windows", "windows", "rows"]
    taken.clear()
    _, few = encoded((64, 1024), 0.05)
    for batch in (1, 2, 3):
        index_linear(torch.randn(batch, 1024), few.values, few.columns, few.offsets)
    assert taken == ["windows", "windows", "rows"]
    taken.clear()
    for _ in range(2):
        index_linear(torch.randn(2, 256), values, found.columns, found.offsets).sum().backward()
    with torch.no_grad():
        for _ in range(2):
            index_linear(torch.randn(2, 256), values, found.columns, found.offsets)
    assert taken == ["windows", "rows", "rows", "windows"]  # nobody knows at first that it will be trained


def test_what_changes_is_not_settled():
    tensor = torch.ones(3)
    assert settled(tensor)
    assert settled(tensor)
    tensor.add_(1)
    assert [settled(tensor), settled(tensor)] == [False, True]
    forget(tensor)
    assert [settled(tensor), settled(tensor)] == [False, True]
    with torch.inference_mode():
        assert not settled(torch.ones(3))
