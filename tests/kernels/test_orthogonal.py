"""The product with a random matrix of orthonormal columns."""

import math

import pytest
import torch

from sparsify.kernels.orthogonal import orthogonal
from sparsify.kernels.seeded import seeded

SEED = torch.tensor(7)


def matrix(rows, columns, stream=3, seed=SEED):
    return torch.stack([orthogonal(unit, seed, stream, rows) for unit in torch.eye(columns)], 1)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (3, 2), (64, 64), (100, 30), (511, 40)])
def test_columns_are_orthonormal_and_the_transposed_product_is_that(rows, columns):
    found = matrix(rows, columns)
    torch.testing.assert_close(found.t() @ found, torch.eye(columns), atol=2e-6, rtol=0)  # sums of 100 roundings
    back = torch.stack([orthogonal(unit, SEED, 3, columns, True) for unit in torch.eye(rows)], 1)
    torch.testing.assert_close(back, found.t(), atol=1e-6, rtol=0)


def test_by_hand():
    """Eight values: signs, a Hadamard matrix over all, signs, places 0, 5, 2, ..., and the Hadamard matrix again."""
    hadamard = torch.tensor([[(-1.0) ** (i & j).bit_count() for i in range(8)] for j in range(8)]) / math.sqrt(8)
    first, second = (torch.diag(seeded(SEED, stream, [8], "sign")) for stream in (9, 10))
    places = torch.eye(8)[torch.arange(8) * 5 % 8]
    expected = (hadamard @ places @ second @ hadamard @ first)[:, :3]
    torch.testing.assert_close(matrix(8, 3), expected, atol=1e-7, rtol=0)


def test_every_value_moves_about_alike():
    """No place is left out, and none has a share far above the mean: rows are as long as √(d/D), nearly."""
    for rows in (1000, 1025, 1535):
        lengths = matrix(rows, 100).square().sum(1) * rows / 100
        assert float(lengths.min()) > 0.4
        assert float(lengths.max()) < 2


def test_seeds_and_streams_are_unrelated():
    one = matrix(300, 1)[:, 0]
    for other in (matrix(300, 1, stream=4)[:, 0], matrix(300, 1, seed=torch.tensor(8))[:, 0]):
        assert abs(float(one @ other)) < 5 / math.sqrt(300)
    assert torch.equal(one, matrix(300, 1)[:, 0])


def test_lengths_stay_and_types_too():
    for dtype, gap in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.01)):
        value = seeded(SEED, 0, [70], "normal").to(dtype)
        found = orthogonal(value, SEED, 0, 5000)
        assert found.dtype == dtype
        assert float(found.double().norm()) == pytest.approx(float(value.double().norm()), rel=gap)


def test_gradients_are_products_with_the_transposed():
    value = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: orthogonal(x, SEED, 1, 12), value)
    assert torch.autograd.gradcheck(lambda x: orthogonal(x, SEED, 1, 3, True), value)


def test_more_columns_than_rows_are_refused():
    with pytest.raises(ValueError, match="5 columns of 4 values are too many"):
        orthogonal(torch.ones(5), SEED, 0, 4)
    with pytest.raises(ValueError, match="5 columns of 4 values are too many"):
        orthogonal(torch.ones(4), SEED, 0, 5, True)


def test_torch_accepts_the_operator():
    for size, transposed in ((12, False), (3, True)):
        value = torch.randn(5, requires_grad=True)
        torch.library.opcheck(torch.ops.sparsify.orthogonal.default, (value, SEED, 0, size, transposed))
