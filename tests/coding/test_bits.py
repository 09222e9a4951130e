import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.coding.bits import equal_bits, packed, unpacked


@given(st.lists(st.booleans(), max_size=40))
def test_round_trip(values):
    mask = torch.tensor(values, dtype=torch.bool)
    assert torch.equal(unpacked(packed(mask), mask.shape), mask)


def test_the_first_weight_is_the_lowest_bit():
    assert packed(torch.tensor([True, False, True] + [False] * 5 + [True])).tolist() == [5, 1]


def test_any_shape_takes_an_eighth():
    mask = torch.rand(5, 7, 3) > 0.5
    bits = packed(mask.transpose(0, 2))
    assert bits.shape == (14,)
    assert torch.equal(unpacked(bits, (3, 7, 5)), mask.transpose(0, 2))


@pytest.mark.parametrize(
    "bits", [torch.zeros(2, dtype=torch.uint8), torch.zeros(1), torch.tensor([255], dtype=torch.uint8)]
)
def test_bits_that_do_not_fit_are_refused(bits):
    with pytest.raises(ValueError, match=r"are not the bits of \[7\]|behind the last"):
        unpacked(bits, (7,))


def test_equal_bits_are_those_of_shape_type_and_every_byte():
    value = torch.tensor([[1.0, float("nan")], [0.0, -2.0]])
    assert equal_bits(value, value.t().contiguous().t())
    assert equal_bits(torch.empty(0), torch.empty(0))
    assert not equal_bits(value, value.reshape(4))
    assert not equal_bits(value, value.view(torch.int32))
    assert not equal_bits(torch.tensor(0.0), torch.tensor(-0.0))
