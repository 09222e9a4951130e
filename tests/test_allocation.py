"""Allocation: numbers worked out by hand, and totals that are exact."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.allocation import at_least, counts, erdos_renyi, smart_ratios, uniform
from sparsify.errors import PassError


def mean(densities, sizes):
    return sum(d * size for d, size in zip(densities, sizes, strict=True)) / sum(sizes)


@pytest.mark.parametrize(
    ("densities", "sizes", "total", "expected"),
    [
        ([0.5, 0.5], [4, 6], 5, [2, 3]),
        ([0.5, 0.5, 0.5], [3, 3, 3], 5, [2, 2, 1]),  # 1.5 each; the first ones get the missing two
        ([0.7, 0.5], [10, 10], 8, [3, 5]),
        ([0.75, 0.5], [5, 5], 4, [1, 3]),  # 1.25 and 2.5: the larger remainder is rounded up
        ([0.0, 1.0], [4, 4], 4, [4, 0]),
        ([0.0, 0.0], [4, 4], 8, [4, 4]),
        ([0.5, 0.5], [4, 4], 0, [0, 0]),
        ([1.0, 1.0], [2, 9], 8, [2, 6]),  # what the densities do not give is shared while there is room
        ([], [], 0, []),
    ],
)
def test_counts_by_hand(densities, sizes, total, expected):
    assert counts(densities, sizes, total) == expected


def test_decimal_densities_are_not_rounded_down():
    assert counts([1 - 0.3] * 3, [10] * 3, 9) == [3, 3, 3]
    assert counts([1 - 0.9, 1 - 0.1], [100, 1000], 190) == [90, 100]


def test_more_than_there_is_is_refused():
    with pytest.raises(PassError, match="11 should go, but there are only 10"):
        counts([0.5, 0.5], [4, 6], 11)


def test_a_density_that_rounding_puts_above_one_takes_nothing_back():
    assert counts([1 + 1e-12, 0.0], [10**10, 5], 4) == [0, 4]


layers = st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 1)), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(layers, st.data())
def test_the_total_is_exact_and_no_layer_loses_more_than_it_has(found, data):
    sizes, densities = [size for size, _ in found], [density for _, density in found]
    total = data.draw(st.integers(0, sum(sizes)))
    gone = counts(densities, sizes, total)
    assert sum(gone) == total
    assert all(0 <= count <= size for count, size in zip(gone, sizes, strict=True))


@settings(max_examples=100, deadline=None)
@given(layers)
def test_the_nearest_total_moves_no_layer_by_more_than_one(found):
    sizes, densities = [size for size, _ in found], [density for _, density in found]
    wanted = [size * (1 - density) for size, density in found]
    for one, other in zip(counts(densities, sizes, round(sum(wanted))), wanted, strict=True):
        assert abs(one - other) < 1 + 1e-6


def test_uniform_gives_every_layer_the_same():
    assert uniform([10, 30, 60], 0.25, [1, 1, 1]) == [0.25, 0.25, 0.25]
    assert uniform([10, 30], 1.0, [1, 0.5]) == [1.0, 1.0]


def test_a_rate_prunes_a_layer_half_as_much():
    densities = uniform([100, 100], 0.7, [1, 0.5])  # c·100 + c·50 = 60
    assert densities == pytest.approx([0.6, 0.8])
    assert mean(densities, [100, 100]) == pytest.approx(0.7)


def test_with_a_rate_the_others_are_full_first():
    densities = uniform([100, 100], 0.1, [1, 0.5])  # 180 go: c = 1.2 is too much for the first
    assert densities == pytest.approx([0.0, 0.2])


def test_erdos_renyi_by_hand():
    shapes, sizes = [[10, 20], [10, 10]], [200, 100]
    # raw: 30/200 = 0.15 and 20/100 = 0.2; epsilon · (30 + 20) = 0.1 · 300
    assert erdos_renyi(shapes, sizes, 0.1) == pytest.approx([0.6 * 0.15, 0.6 * 0.2])


def test_layers_that_would_be_more_than_dense_are_dense():
    shapes, sizes = [[100, 100], [2, 2]], [10_000, 4]
    densities = erdos_renyi(shapes, sizes, 0.1)  # raw 0.02 and 1
    assert densities[1] == 1.0
    assert densities[0] == pytest.approx((0.1 * 10_004 - 4) / 10_000)


def test_one_dense_layer_can_make_the_next_one_dense():
    shapes, sizes = [[1000, 1000], [10, 10], [2, 2]], [1_000_000, 100, 4]
    densities = erdos_renyi(shapes, sizes, 0.02)  # raw 0.002, 0.2, 1: first 2:2 is full, then 10:10
    assert densities[1:] == [1.0, 1.0]
    assert mean(densities, sizes) == pytest.approx(0.02)


def test_the_kernel_counts_in_erk_and_not_in_er():
    shapes, sizes = [[16, 8, 3, 3], [16, 8, 1, 1]], [1152, 128]
    raw = [30 / 1152, 26 / 128]
    epsilon = 0.1 * 1280 / 56
    assert erdos_renyi(shapes, sizes, 0.1) == pytest.approx([epsilon * value for value in raw])
    assert erdos_renyi(shapes, sizes, 0.1, kernel=False) == pytest.approx([0.1, 0.1])  # both are 24/128


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3, 5])), min_size=1, max_size=6),
    st.floats(0, 1), st.booleans(),
)  # fmt: skip
def test_erdos_renyi_reaches_the_density(found, density, kernel):
    shapes = [[out, inner, size, size] for out, inner, size in found]
    sizes = [out * inner * size * size for out, inner, size in found]
    densities = erdos_renyi(shapes, sizes, density, kernel=kernel)
    assert mean(densities, sizes) == pytest.approx(density, abs=1e-9)
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in densities)


def test_smart_ratios_fall_with_depth_and_the_last_layer_keeps_three_tenths():
    densities = smart_ratios([100] * 4, 0.2)
    # weights 4²+4, 3²+3, 2²+2 = 20, 12, 6 for 80 - 30 weights in 300
    assert densities == pytest.approx([50 / 38 * 0.20, 50 / 38 * 0.12, 50 / 38 * 0.06, 0.3])
    assert mean(densities, [100] * 4) == pytest.approx(0.2)


def test_smart_ratios_of_one_layer_are_the_density():
    assert smart_ratios([10], 0.4) == [0.4]
    assert smart_ratios([], 0.4) == []


def test_smart_ratios_do_not_keep_more_than_they_may():
    densities = smart_ratios([100, 1000], 0.01)  # 11 weights stay, of which the last layer may keep all
    assert densities == pytest.approx([0.0, 0.011])


def test_smart_ratios_keep_more_of_the_last_layer_when_all_others_are_dense():
    assert smart_ratios([10, 10], 0.9) == pytest.approx([1.0, 0.8])
    assert smart_ratios([10, 10], 1.0) == [1.0, 1.0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=8), st.floats(0, 1))
def test_smart_ratios_reach_the_density(sizes, density):
    densities = smart_ratios(sizes, density)
    assert mean(densities, sizes) == pytest.approx(density, abs=1e-9)
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in densities)
    inner = densities[:-1]
    assert all(one >= other - 1e-9 for one, other in itertools.pairwise(inner))


@pytest.mark.parametrize(
    ("counts", "floors", "expected"),
    [
        ([5, 5, 5], [0, 0, 0], [5, 5, 5]),
        ([5, 5, 5], [8, 0, 0], [8, 3, 4]),
        ([5, 5, 5], [8, 5, 0], [8, 5, 2]),
        ([5, 5], [9, 9], [9, 9]),
        ([0, 10], [3, 9], [3, 9]),
        ([], [], []),
    ],
)
def test_numbers_give_way_to_floors(counts, floors, expected):
    assert at_least(counts, floors) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=6))
def test_the_sum_stays_where_it_can(pairs):
    counts, floors = [a for a, _ in pairs], [b for _, b in pairs]
    found = at_least(counts, floors)
    assert all(value >= floor for value, floor in zip(found, floors, strict=True))
    assert sum(found) == max(sum(counts), sum(floors)) or sum(found) == sum(counts)
