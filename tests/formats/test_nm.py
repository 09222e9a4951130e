"""Nm: what the mask keeps comes back bit for bit, and the layout is the one that is written down."""

import pytest
import torch
from helpers.matrices import DTYPES, SHAPES, kept_only, matrix, nm_mask, same_bits

from sparsify.formats.nm import Nm

PATTERNS = [(1, 2), (2, 4), (1, 4), (3, 5), (4, 8), (7, 16), (3, 17), (8, 256)]


def decoded(found):
    """Decode by reading the documented layout one value at a time."""
    rows, columns = found.shape
    bits = {True: 1}.get(found.m <= 2) or (2 if found.m <= 4 else 4 if found.m <= 16 else 8)
    dense = torch.zeros(rows, columns, dtype=found.values.dtype)
    for row in range(rows):
        for number in range(found.values.shape[1]):
            byte = int(found.codes[row, number * bits // 8])
            place = byte >> (number * bits % 8) & (2**bits - 1)
            column = number // found.n * found.m + place
            if column < columns:
                dense[row, column] = found.values[row, number]
    return dense


@pytest.mark.parametrize(("n", "m"), PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_kept_comes_back(shape, n, m):
    weight, mask = matrix(shape), nm_mask(shape, n, m)
    found = Nm.encode(weight, mask, n, m)
    assert same_bits(found.decode(), kept_only(weight, mask))
    assert same_bits(decoded(found), kept_only(weight, mask))


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_every_type(dtype):
    weight, mask = matrix((9, 24), dtype), nm_mask((9, 24), 2, 4)
    assert same_bits(Nm.encode(weight, mask, 2, 4).decode(), kept_only(weight, mask))


def test_the_layout_by_hand():
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    mask = torch.tensor([[False, True, False, True, True, False]])
    found = Nm.encode(weight, mask, 2, 4)
    assert found.values.tolist() == [[2.0, 4.0, 5.0, 0.0]]
    assert found.codes.tolist() == [[0b01_00_11_01]]  # places 1 and 3, then 0 and 1, which is free
    assert found.nbytes == 4 * 4 + 1


def test_two_of_four_in_bfloat16_takes_nine_sixteenths():
    weight, mask = matrix((64, 256), torch.bfloat16), nm_mask((64, 256), 2, 4)
    assert Nm.encode(weight, mask, 2, 4).nbytes == weight.nbytes * 0.5625


def test_places_ascend():
    found = Nm.encode(matrix((8, 32)), nm_mask((8, 32), 3, 8), 3, 8)
    assert bool((found.places().view(8, 4, 3).diff(dim=2) > 0).all())


@pytest.mark.parametrize(
    ("weight", "mask", "n", "m", "message"),
    [
        (torch.ones(2, 4), torch.ones(2, 4, dtype=torch.bool), 2, 4, "keeps 4 weights of a group of 4"),
        (torch.ones(2, 4), torch.ones(2, 3, dtype=torch.bool), 2, 4, "a matrix and its boolean mask"),
        (torch.ones(8), torch.ones(8, dtype=torch.bool), 2, 4, "a matrix and its boolean mask"),
        (torch.ones(2, 4), torch.ones(2, 4), 2, 4, "torch.float32"),
        (torch.ones(2, 4), torch.ones(2, 4, dtype=torch.bool), 4, 4, "4:4 is no pattern"),
        (torch.ones(2, 4), torch.ones(2, 4, dtype=torch.bool), 1, 512, "1:512 is no pattern"),
    ],
)
def test_what_cannot_be_stored(weight, mask, n, m, message):
    with pytest.raises(ValueError, match=message):
        Nm.encode(weight, mask, n, m)
