"""BlockRows: tiles come back bit for bit, empty ones are not stored."""

import pytest
import torch
from helpers.matrices import DTYPES, SHAPES, kept_only, mask_of, matrix, same_bits

from sparsify.formats.block import BlockRows


def decoded(found):
    """Decode by reading the documented layout one tile at a time."""
    height, width = found.values.shape[1:]
    dense = torch.zeros(found.shape, dtype=found.values.dtype)
    for row in range(len(found.offsets) - 1):
        for tile in range(int(found.offsets[row]), int(found.offsets[row + 1])):
            top, left = row * height, int(found.columns[tile]) * width
            part = dense[top : top + height, left : left + width]
            part[:] = found.values[tile, : part.shape[0], : part.shape[1]]
    return dense


@pytest.mark.parametrize("tile", [(1, 1), (2, 3), (4, 4), (32, 32), (64, 16)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
def test_what_is_kept_comes_back(shape, tile, density):
    weight, mask = matrix(shape), mask_of(shape, density)
    found = BlockRows.encode(weight, mask, *tile)
    assert same_bits(found.decode(), kept_only(weight, mask))
    assert same_bits(decoded(found), kept_only(weight, mask))


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_every_type(dtype):
    weight, mask = matrix((9, 24), dtype), mask_of((9, 24), 0.1)
    assert same_bits(BlockRows.encode(weight, mask, 4, 8).decode(), kept_only(weight, mask))


def test_the_layout_by_hand():
    weight = torch.arange(1.0, 13.0).view(3, 4)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 2] = mask[2, 0] = mask[2, 3] = True
    found = BlockRows.encode(weight, mask, 2, 2)
    assert found.values.tolist() == [[[3.0, 0.0], [0.0, 0.0]], [[9.0, 0.0], [0.0, 0.0]], [[0.0, 12.0], [0.0, 0.0]]]
    assert found.columns.tolist() == [1, 0, 1]
    assert found.offsets.tolist() == [0, 1, 3]
    assert found.rows().tolist() == [0, 1, 1]


def test_a_tile_has_a_row_and_a_column():
    with pytest.raises(ValueError, match="a tile of 0 by 4 is empty"):
        BlockRows.encode(torch.ones(4, 4), torch.ones(4, 4, dtype=torch.bool), 0, 4)
