"""Arrays without their zeros."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import InputError
from sparsify.export.sparse_values import SparseValues, fits


def same_bits(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@st.composite
def arrays(draw):
    dtype = draw(st.sampled_from([np.float32, np.float16, np.float64]))
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = random.standard_normal(shape).astype(dtype)
    array[random.random(shape) < draw(st.floats(0, 1))] = 0
    odd = random.random(shape)
    array[odd < 0.05], array[odd > 0.95] = -0.0, np.nan
    return array


@given(arrays(), st.sampled_from(["bitmask", "gaps", None]))
def test_what_is_decoded_has_the_same_bits(array, kind):
    assert same_bits(SparseValues.encode(array, kind).decode(array.dtype), array)


def test_the_layouts_are_what_they_are_said_to_be():
    array = np.array([[0, 3, 0, 0, 5], [0, 0, 0, 0, 7]], np.float32)
    bits = SparseValues.encode(array, "bitmask")
    assert bits.places.tolist() == [0b00010010, 0b10]
    assert bits.values.tolist() == [0, 3, 5, 7]
    gaps = SparseValues.encode(array, "gaps")
    assert gaps.places.tolist() == [2, 3, 5]
    assert gaps.values.tolist() == [3, 5, 7]


def test_a_long_way_has_zeros_on_it():
    array = np.zeros(1000, np.float32)
    array[[254, 255, 765]] = 1, 2, 3
    gaps = SparseValues.encode(array, "gaps")
    assert gaps.places.tolist() == [255, 1, 255, 255]
    assert gaps.values.tolist() == [1, 2, 0, 3]
    assert same_bits(gaps.decode(array.dtype), array)


@pytest.mark.parametrize(("share", "kind"), [(0.5, "bitmask"), (0.13, "bitmask"), (0.12, "gaps"), (0.01, "gaps")])
def test_the_smaller_layout_is_chosen(share, kind):
    array = (np.random.default_rng(0).random(100_000) < share).astype(np.float32)
    assert SparseValues.encode(array).kind == kind
    sizes = {name: SparseValues.encode(array, name).bytes for name in ("bitmask", "gaps")}
    assert SparseValues.encode(array).bytes == sizes[kind]


def test_half_a_byte_and_four_for_each_that_is_kept():
    array = np.zeros(8000, np.float32)
    array[::2] = 1
    assert SparseValues.encode(array).bytes == 1000 + 4 * 4001


def test_rounded_values_are_as_near_as_their_type_allows():
    array = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    array[array < 0.5] = 0
    largest = array.max()
    int8 = SparseValues.encode(array, numbers="int8")
    assert int8.values.dtype == np.int8
    assert np.abs(int8.decode(array.dtype) - array).max() <= largest / 127 / 2 * 1.0001
    assert not int8.decode(array.dtype)[array == 0].any()
    half = SparseValues.encode(array, numbers="fp16")
    assert same_bits(half.decode(array.dtype), array.astype(np.float16).astype(np.float32))


def test_damaged_places_are_noticed():
    array = np.eye(20, dtype=np.float32)
    for kind in ("bitmask", "gaps"):
        whole = SparseValues.encode(array, kind)
        short = SparseValues(kind, whole.shape, whole.places, whole.values[:-1])
        outside = SparseValues(kind, (10, 20), whole.places, whole.values)
        for damaged in (short, outside):
            with pytest.raises(InputError, match="do not fit"):
                damaged.decode(array.dtype)


def test_what_a_runtime_folds_is_bounded():
    assert fits((1000, 1000), 1000, 4_000_032)
    assert not fits((1000, 1000), 1000, 4_000_031)
    assert not fits((10,), 1000, 7999)
