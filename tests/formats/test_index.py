"""Index: what the mask keeps comes back bit for bit, zeros that are kept among it."""

import pytest
import torch
from helpers.matrices import DTYPES, SHAPES, kept_only, mask_of, matrix, same_bits

from sparsify.formats import row_offsets
from sparsify.formats.index import Index


def decoded(found):
    """Decode by reading the documented layout one value at a time."""
    dense = torch.zeros(found.shape, dtype=found.values.dtype)
    for row in range(found.shape[0]):
        for place in range(int(found.offsets[row]), int(found.offsets[row + 1])):
            dense[row, int(found.columns[place])] = found.values[place]
    return dense


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_what_is_kept_comes_back(shape, density):
    weight, mask = matrix(shape), mask_of(shape, density)
    found = Index.encode(weight, mask)
    assert same_bits(found.decode(), kept_only(weight, mask))
    assert same_bits(decoded(found), kept_only(weight, mask))
    assert len(found.values) == int(mask.sum())


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_every_type(dtype):
    weight, mask = matrix((9, 24), dtype), mask_of((9, 24), 0.1)
    assert same_bits(Index.encode(weight, mask).decode(), kept_only(weight, mask))


def test_the_layout_by_hand():
    mask = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    found = Index.encode(torch.arange(9.0).view(3, 3), mask)
    assert found.values.tolist() == [0.0, 2.0, 7.0]  # a zero that is kept is stored
    assert found.columns.tolist() == [0, 2, 1]
    assert found.offsets.tolist() == [0, 2, 2, 3]
    assert found.rows().tolist() == [0, 0, 2]
    assert set(found.tensors) == {"values", "columns", "offsets"}


def test_more_than_can_be_counted_is_refused():
    with pytest.raises(ValueError, match="2,200,000,000 values are more than a format can hold"):
        row_offsets(torch.full((11,), 200_000_000))
