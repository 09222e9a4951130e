import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.axes.axis import (
    DYNAMIC,
    ONE,
    UNALIGNED,
    Axis,
    cut,
    factors,
    find,
    freeze,
    leaves,
    product,
    segments,
    split_off,
    total,
    unify,
)


def fresh(*sizes):
    return [Axis(size) for size in sizes]


def reasons(*axes):
    return [leaf.frozen for axis in axes for leaf in leaves(axis)]


def same(a, b):
    return find(a) is find(b)


def dynamic(size):
    return Axis(size, DYNAMIC, dynamic=True)


def test_unified_axes_share_everything_that_comes_later():
    a, b, c = fresh(6, 6, 6)
    unify(a, b)
    unify(c, b)
    freeze(a, "why")
    assert same(a, b)
    assert same(a, c)
    assert reasons(c) == ["why"]


def test_what_is_unified_with_something_composed_becomes_composed():
    a, x, y = fresh(6, 2, 3)
    unify(a, product([x, y]))
    assert factors(a) == [x, y]
    b = Axis(6)
    unify(total(fresh(2, 4)), b)
    assert [segment.size for segment in segments(b)] == [2, 4]


def test_factors_are_split_until_they_align():
    (x, y), (p, q, r) = fresh(12, 64), fresh(6, 2, 64)
    unify(product([x, y]), product([p, q, r]))
    assert same(y, r)
    assert factors(x) == [p, q]


def test_both_sides_are_split():
    (x, y), (p, q) = fresh(4, 18), fresh(12, 6)
    unify(product([x, y]), product([p, q]))
    assert repr(y) == "(3*6)"
    assert factors(p) == [find(x), factors(y)[0]]
    assert same(factors(y)[1], q)


def test_sums_are_cut_until_they_align():
    (x, y), (p, q) = fresh(2, 4), fresh(5, 1)
    unify(total([x, y]), total([p, q]))
    assert repr(y) == "(3+1)"
    assert segments(p) == [find(x), segments(y)[0]]
    assert same(segments(y)[1], q)
    assert reasons(x, y) == ["", "", ""]


def test_a_product_is_distributed_over_a_sum():
    """(2 + 3) heads of 4 channels are 8 channels and 12 channels."""
    (heads, width), (x, y) = fresh(5, 4), fresh(8, 12)
    unify(product([heads, width]), total([x, y]))
    assert repr(heads) == "(2+3)"
    assert factors(x) == [segments(heads)[0], width]
    assert factors(y) == [segments(heads)[1], width]


def test_a_product_is_distributed_where_a_factor_must_be_split_first():
    (heads, width), (x, y) = fresh(2, 6), fresh(4, 8)
    unify(product([heads, width]), total([x, y]))
    assert [leaf.size for leaf in leaves(product([heads, width]))] == [2, 3, 2]
    assert same(factors(width)[1], factors(x)[1])
    assert reasons(x) == [UNALIGNED, ""]  # 2 x 3 parts of two channels do not tell which 2 of the 6 come first


def test_halves_that_change_places_are_the_same():
    """Rotary embeddings: a dimension meets itself with its halves exchanged."""
    a, b = fresh(4, 4)
    unify(total([a, b]), total([b, a]))
    assert same(a, b)
    assert reasons(a) == [""]


def test_uneven_parts_that_change_places_are_the_same_in_smaller_parts():
    a, b = fresh(2, 4)
    unify(total([a, b]), total([b, a]))
    assert same(*segments(b))
    assert same(segments(b)[0], a)


def test_factors_that_change_places():
    (a, b), (x, y) = fresh(4, 4), fresh(2, 3)
    unify(product([a, b]), product([b, a]))
    unify(product([x, y]), product([y, x]))
    assert same(a, b)
    assert reasons(a, x, y) == ["", UNALIGNED, UNALIGNED]


def test_dynamic_axes_are_factors_like_others():
    batch, other, a, b = dynamic(2), dynamic(2), *fresh(6, 6)
    unify(product([batch, a]), product([other, b]))
    assert same(batch, other)
    assert same(a, b)
    assert reasons(a) == [""]


def test_what_is_added_to_a_dynamic_size_is_frozen():
    a = Axis(6)
    joined = total([dynamic(2), a])
    assert joined.dynamic
    assert reasons(a) == ["its size is added to a dynamic one"]


@pytest.mark.parametrize(
    "other", [Axis(5), dynamic(6), total([dynamic(2), Axis(4)])], ids=["size", "dynamic", "dynamic sum"]
)
def test_what_cannot_be_the_same_is_frozen(other):
    a = product(fresh(2, 3))
    unify(a, other)
    assert not same(a, other)
    assert "" not in reasons(a, other)


def test_a_reason_is_inherited_by_parts_of_every_kind():
    split, cut_up, joined = (Axis(6, "why") for _ in range(3))
    parts = [split_off(split, 2), cut(cut_up, [2, 4]), fresh(2, 3)]
    unify(joined, product(parts[2]))
    assert [reasons(*found) for found in parts] == [["why", "why"]] * 3


def test_a_reason_reaches_parts_that_were_made_before():
    split, cut_up = fresh(6, 6)
    parts = [*split_off(split, 2), *cut(cut_up, [2, 4])]
    freeze(split, "why")
    freeze(cut_up, "why")
    assert reasons(*parts) == ["why"] * 4


def test_a_frozen_part_freezes_that_part_alone():
    a = Axis(6)
    first, second = cut(a, [2, 4])
    freeze(second, "why")
    assert reasons(a) == ["", "why"]
    assert reasons(first) == [""]


def test_the_first_reason_stays():
    a, b = Axis(6, "first"), Axis(6, "second")
    freeze(a, "third")
    unify(b, a)
    assert reasons(a, b) == ["first", "first"]


def test_an_axis_of_size_one_is_no_factor_but_a_segment():
    a = Axis(6)
    assert product([ONE, a, ONE]) is a
    assert product([ONE, ONE]) is ONE
    assert segments(total([a, ONE])) == [a, ONE]
    one = Axis(1)
    unify(ONE, one)
    assert same(one, ONE)


def test_empty_parts_are_no_segments():
    a = Axis(6)
    empty, whole = cut(a, [0, 6])
    assert (empty.size, whole) == (0, a)
    assert total([Axis(0), a]) is a
    assert total([]).size == 0


def test_split_off_tells_whether_it_can_be():
    assert [axis.size for axis in split_off(product(fresh(4, 6)), 12)] == [2, 2, 6]
    assert split_off(Axis(6), 4) is None
    assert split_off(dynamic(6), 2) is None


def test_cut_does_not_cut_what_is_whole():
    a = Axis(6)
    assert cut(a, [6]) == [a]
    assert find(a).kind == "leaf"


class World:
    """Axes, and what was said about them: pairs of lists whose kept positions, joined, must stay the same."""

    def __init__(self, sizes):
        self.axes = [ONE if size == 1 else Axis(size) for size in sizes]
        self.said = []

    def step(self, kind, first, second, number):
        a, b = (self.axes[index % len(self.axes)] for index in (first, second))
        if kind == "unify":
            self.meet(a, b)
        elif kind == "product" and 0 < a.size * b.size <= 200:
            self.add([product([a, b])], "product", [a, b])
        elif kind == "total" and a.size + b.size <= 200:
            self.add([total([a, b])], "sum", [a, b])
        elif kind == "cut" and a.size:
            at = number % (a.size + 1)
            parts = cut(a, [at, a.size - at])
            self.add(parts, "sum", [a])
        elif kind == "split" and (sizes := [n for n in range(2, a.size) if a.size % n == 0]):
            if (parts := split_off(a, sizes[number % len(sizes)])) is not None:
                self.add(parts, "product", [a])
        elif kind == "freeze" and number % 4 == 0:
            freeze(a, "why")

    def meet(self, a, b):
        unify(a, b)
        if a.size == b.size:
            self.said.append(("sum", [a], [b]))
        else:
            assert "" not in reasons(a, b)

    def add(self, made, kind, parts):
        self.axes += made
        self.said.append((kind, made, parts))

    def check(self, seed):
        for axis in self.axes:
            well_formed(axis)
        generator = torch.Generator().manual_seed(seed)
        free = {leaf: torch.rand(leaf.size, generator=generator) < 0.6 for axis in self.axes for leaf in leaves(axis)}
        free = {leaf: kept for leaf, kept in free.items() if not leaf.frozen and leaf.size > 1}
        for kind, made, parts in self.said:
            assert torch.equal(together(kind, made, free), together(kind, parts, free)), (kind, made, parts)


def well_formed(axis):
    axis = find(axis)
    for part in axis.parts:
        well_formed(part)
    if axis.kind != "leaf":
        join = math.prod if axis.kind == "product" else sum
        assert join(find(part).size for part in axis.parts) == axis.size


def kept(axis, free):
    """Return which indices of an axis stay, written down once more from the definition."""
    axis = find(axis)
    if axis.kind == "leaf":
        return free.get(axis, torch.ones(axis.size, dtype=torch.bool))
    return together(axis.kind, axis.parts, free)


def together(kind, parts, free):
    found = [kept(part, free) for part in parts]
    if kind == "sum":
        return torch.cat(found)
    result = torch.ones(1, dtype=torch.bool)
    for mask in found:
        result = (result[:, None] & mask).flatten()
    return result


STEPS = st.tuples(
    st.sampled_from(["unify", "unify", "unify", "product", "total", "cut", "split", "freeze"]),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 30),
)


@settings(deadline=None, max_examples=400, derandomize=True, database=None)
@given(st.lists(st.sampled_from([1, 2, 3, 4, 6, 12, 12, 24]), min_size=2, max_size=6), st.lists(STEPS, max_size=12))
def test_whatever_is_said_stays_true(sizes, steps):
    """Nothing raises, nothing runs forever, and what was unified, joined or cut loses the same positions."""
    world = World(sizes)
    for step in steps:
        world.step(*step)
    world.check(seed=len(steps))
