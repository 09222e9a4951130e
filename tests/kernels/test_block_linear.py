"""block_linear: the dense layer, forward and backward, of every shape, and well-behaved in torch."""

import pytest
import torch
from helpers.sparse_linear import SparseLinear, assert_close
from torch.nn import functional as F

from sparsify.formats.block import BlockRows
from sparsify.kernels.block_linear import block_linear


class TestBlockLinear(SparseLinear):
    """Tiles of one row and one column fit every shape; larger ones are below."""

    operator = block_linear

    def stored(self, weight, mask):
        found = BlockRows.encode(weight, mask, 1, 1)
        return found.values, found.columns, found.offsets

    def taken(self, matrix, mask):
        return matrix[mask].view(-1, 1, 1)


@pytest.mark.parametrize("tile", [(2, 3), (4, 4), (16, 32), (64, 64)])
@pytest.mark.parametrize("shape", [(12, 20), (33, 70), (128, 64), (5, 3)])
@pytest.mark.parametrize("batch", [0, 1, 40])
def test_tiles(batch, shape, tile):
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(shape, generator=generator), torch.randn(batch, shape[1], generator=generator)
    grid = torch.rand(-(-shape[0] // tile[0]), -(-shape[1] // tile[1]), generator=generator) < 0.5
    mask = grid.repeat_interleave(tile[0], 0).repeat_interleave(tile[1], 1)[: shape[0], : shape[1]]
    weight = torch.where(mask, weight, 0.0)
    found = BlockRows.encode(weight, mask, *tile)
    leaves = [leaf.clone().requires_grad_() for leaf in (x, found.values)]
    upstream = torch.randn(batch, shape[0], generator=generator)
    out = block_linear(*leaves, found.columns, found.offsets, None, "silu", shape[0])
    out.backward(upstream)
    dense = [leaf.double().requires_grad_() for leaf in (x, weight)]
    expected = F.silu(F.linear(*dense))
    expected.backward(upstream.double())
    assert_close(out, expected)
    assert_close(leaves[0].grad, dense[0].grad)
    assert_close(leaves[1].grad, BlockRows.encode(dense[1].grad, mask, *tile).values)


@pytest.mark.parametrize("damage", ["column", "negative", "offset", "values"])
def test_damaged_places_are_refused(damage):
    weight = torch.randn(32, 48)
    found = BlockRows.encode(weight, torch.ones(32, 48, dtype=torch.bool), 16, 16)
    x, columns, offsets = torch.randn(2, 48), found.columns.clone(), found.offsets.clone()
    block_linear(x, found.values, columns, offsets)  # as it should be
    if damage in ("column", "negative"):
        columns[0] = 3 if damage == "column" else -1
    elif damage == "offset":
        offsets[1] = 10
    values = found.values[:-1] if damage == "values" else found.values
    with pytest.raises(ValueError, match="stored places do not fit"):
        block_linear(x, values, columns, offsets)
