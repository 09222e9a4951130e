"""Bitmask: what the mask keeps comes back bit for bit, and so does the mask."""

import pytest
import torch
from helpers.matrices import DTYPES, SHAPES, kept_only, mask_of, matrix, same_bits

from sparsify.formats.bitmask import Bitmask


def decoded(found):
    """Decode by reading the documented layout one bit at a time."""
    rows, columns = found.shape
    dense = torch.zeros(rows, columns, dtype=found.values.dtype)
    for row in range(rows):
        place = int(found.offsets[row])
        for column in range(columns):
            if int(found.bits[row, column // 8]) >> (column % 8) & 1:
                dense[row, column] = found.values[place]
                place += 1
        assert place == int(found.offsets[row + 1])
    return dense


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_what_is_kept_comes_back(shape, density):
    weight, mask = matrix(shape), mask_of(shape, density)
    found = Bitmask.encode(weight, mask)
    assert same_bits(found.decode(), kept_only(weight, mask))
    assert same_bits(decoded(found), kept_only(weight, mask))
    assert torch.equal(found.mask(), mask)


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_every_type(dtype):
    weight, mask = matrix((9, 24), dtype), mask_of((9, 24), 0.3)
    assert same_bits(Bitmask.encode(weight, mask).decode(), kept_only(weight, mask))


def test_the_layout_by_hand():
    mask = torch.tensor([[True, False, True], [False, False, True]])
    found = Bitmask.encode(torch.arange(6.0).view(2, 3), mask)
    assert found.values.tolist() == [0.0, 2.0, 5.0]
    assert found.bits.tolist() == [[0b101], [0b100]]
    assert found.offsets.tolist() == [0, 2, 3]
    assert found.nbytes == 3 * 4 + 2 + 3 * 4
