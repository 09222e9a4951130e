"""Ranking: exactly so many of the lowest scores, whatever their type, their order and their pieces."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.pruning.ranking import Scored, lowest

SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 1e-45, -1e-45, 3.4e38, -3.4e38, 1 + 2**-23, 5e-324]


def scored(values, cuts=(), dtype=torch.float32):
    """Scores as the ranking takes them, cut at some places."""
    values = values if isinstance(values, torch.Tensor) else torch.tensor(values, dtype=dtype)
    edges = [0, *sorted(cuts), len(values)]
    pieces = [values[start:end] for start, end in itertools.pairwise(edges)]
    return Scored("w", len(values), lambda: iter(pieces))


def expected(tensors, count):
    """What a stable sort of all scores says: of equal ones the later ones go."""
    joined = torch.cat([t.double() for t in tensors]) if tensors else torch.empty(0)
    order = joined.flip(0).argsort(stable=True)  # the last one comes first among equals
    keep = torch.ones(len(joined), dtype=torch.bool)
    keep[len(joined) - 1 - order[:count]] = False
    return list(keep.split([len(t) for t in tensors]))


def kept(values, count, cuts=()):
    return lowest([scored(values, cuts)], count)[0].tolist()


def test_every_count_is_exact():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 40, generator=generator)
    for count in range(121):
        found = lowest([scored(row) for row in values], count)
        assert sum(int((~mask).sum()) for mask in found) == count
        assert all(map(torch.equal, found, expected(list(values), count)))


def test_a_count_out_of_range_takes_nothing_or_all():
    assert kept([1.0, 2.0], -3) == [True, True]
    assert kept([1.0, 2.0], 7) == [False, False]


def test_of_equal_scores_the_later_ones_go():
    assert kept([1.0, 1.0, 1.0, 1.0], 1) == [True, True, True, False]
    assert kept([2.0, 1.0, 1.0, 0.0, 1.0], 2) == [True, True, True, False, False]


def test_ties_are_broken_across_pieces_and_tensors():
    assert kept([1.0] * 6, 3, cuts=[1, 4]) == [True] * 3 + [False] * 3
    found = lowest([scored([1.0, 0.0, 1.0], [1]), scored([1.0, 5.0, 1.0], [2])], 3)
    assert [mask.tolist() for mask in found] == [[True, False, True], [False, True, False]]


def test_minus_zero_is_zero():
    assert kept([-0.0, 0.0], 1) == [True, False]
    assert kept([0.0, -0.0], 1) == [True, False]
    assert kept([0.0, -0.0, -1e-45], 1) == [True, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_infinities_are_the_ends(dtype):
    values = torch.tensor([math.inf, -1.0, -math.inf, 0.0, -math.inf, 1.0, math.inf], dtype=dtype)
    for count in range(8):
        assert torch.equal(lowest([scored(values, [3])], count)[0], expected([values], count)[0])
    assert kept(values, 1) == [True, True, True, True, False, True, True]


def test_float64_differences_that_float32_does_not_have():
    values = torch.tensor([1 + 3e-12, 1 + 1e-12, 1.0, 1 + 2e-12], dtype=torch.float64)
    assert kept(values, 2) == [True, False, False, True]
    negative = -values
    assert kept(negative, 2) == [False, True, True, False]


@pytest.mark.parametrize("double_first", [True, False])
def test_tensors_of_different_types_are_ranked_together(double_first):
    double, single = torch.tensor([1 + 1e-12, 1 - 1e-12], dtype=torch.float64), torch.tensor([1.0, 2.0])
    tensors = [double, single] if double_first else [single, double]
    for count in range(5):
        found = lowest([scored(value) for value in tensors], count)
        assert all(map(torch.equal, found, expected(tensors, count)))


def test_half_precision_is_ranked_as_it_is():
    values = torch.tensor([0.1, -3.0, 2.5, 0.1, 7.0], dtype=torch.bfloat16)
    assert kept(values, 2) == [True, False, True, False, True]


def test_empty_tensors_and_pieces_are_no_trouble():
    none = Scored("none", 0, lambda: iter([]))
    found = lowest([none, scored([3.0, 1.0, 2.0], [0, 0, 3]), scored([])], 2)
    assert [mask.tolist() for mask in found] == [[], [True, False, False], []]
    assert lowest([], 0) == []
    assert [mask.tolist() for mask in lowest([none], 0)] == [[]]


def test_scores_stay_as_they_are():
    values = torch.tensor([-0.0, 0.5, -2.0])
    before = values.clone()
    lowest([scored(values)], 1)
    assert torch.equal(values, before)
    assert torch.equal(values.signbit(), before.signbit())


def test_all_bits_of_a_score_count():
    """Neighbouring floats differ in the last bit only, and share both halves with others."""
    bits = torch.tensor([0x3F800000, 0x3F800001, 0x3F7FFFFF, 0x40000000, 0x3F810000, 0x00000001], dtype=torch.int32)
    values = torch.cat([bits.view(torch.float32), -bits.view(torch.float32)])
    for count in range(len(values) + 1):
        assert torch.equal(lowest([scored(values)], count)[0], expected([values], count)[0])


floats = st.one_of(
    st.sampled_from(SPECIAL), st.integers(-3, 3).map(float), st.floats(allow_nan=False, width=32),
    st.floats(allow_nan=False),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.lists(floats, max_size=12), st.sampled_from([torch.float32, torch.float64])), max_size=4),
    st.data(),
)
def test_it_is_a_stable_sort(rows, data):
    tensors = [torch.tensor(values, dtype=torch.float64).to(dtype) for values, dtype in rows]
    count = data.draw(st.integers(0, sum(map(len, tensors))))
    wanted = expected(tensors, count)
    for _ in range(2):  # however the scores are cut
        cuts = [data.draw(st.lists(st.integers(0, len(values)), max_size=3)) for values in tensors]
        found = lowest([scored(values, cut) for values, cut in zip(tensors, cuts, strict=True)], count)
        assert all(map(torch.equal, found, wanted))


def test_a_large_tensor_in_many_pieces_is_the_same_as_in_one():
    values = torch.randn(50_000, generator=torch.Generator().manual_seed(1)).mul(100).round().div(100)
    whole = lowest([scored(values)], 33_333)[0]
    assert torch.equal(whole, lowest([scored(values, range(0, 50_000, 999))], 33_333)[0])
    assert torch.equal(whole, expected([values], 33_333)[0])
