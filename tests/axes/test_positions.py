"""Positions of leaves along the axes that they are parts of."""

import itertools
import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.axes import Axis
from sparsify.axes.axis import product, total, unify
from sparsify.axes.positions import by_leaf, positions, terms


def fresh(*sizes):
    return [Axis(size) for size in sizes]


def test_positions():
    a, b, c = fresh(2, 3, 2)
    axis = total([product([a, b]), c, product([b, a])])
    assert positions(axis, a).tolist() == [[0, 0, 0, 1, 1, 1, -1, -1, 0, 1, 0, 1, 0, 1]]
    assert positions(axis, b).tolist() == [[0, 1, 2, 0, 1, 2, -1, -1, 0, 0, 1, 1, 2, 2]]
    assert positions(axis, c).tolist() == [[-1, -1, -1, -1, -1, -1, 0, 1, -1, -1, -1, -1, -1, -1]]
    assert positions(axis, Axis(2)).shape == (0, 14) or not bool((positions(axis, Axis(2)) >= 0).any())


def test_positions_of_a_leaf_that_is_twice_a_factor():
    a, b = fresh(2, 2)
    unify(a, b)
    assert positions(product([a, b]), a).tolist() == [[0, 0, 1, 1], [0, 1, 0, 1]]


@st.composite
def dimensions(draw):
    """An axis, and for each of its indices the set of (leaf, index) that it is made of, counted with numpy."""
    base = [np.array([{(leaf, i)} for i in range(leaf.size)], dtype=object) for leaf in fresh(2, 3, 4)]
    pool = [(next(iter(ids[0]))[0], ids) for ids in base]
    for _ in range(draw(st.integers(0, 3))):
        (a, x), (b, y) = draw(st.sampled_from(pool)), draw(st.sampled_from(pool))
        if draw(st.booleans()):
            pool.append((product([a, b]), np.array([i | j for i, j in itertools.product(x, y)], dtype=object)))
        else:
            pool.append((total([a, b]), np.concatenate([x, y])))
    return pool


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(dimensions())
def test_positions_are_those_of_the_elements(pool):
    axis, ids = pool[-1]
    for leaf, _ in pool[:3]:
        rows = positions(axis, leaf)
        found = [{int(i) for i in column if i >= 0} for column in rows.T]
        assert found == [{i for other, i in have if other is leaf} for have in ids]


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(dimensions(), st.integers(0, 2**16))
def test_values_by_leaf_are_those_at_the_positions(pool, seed):
    axis, _ = pool[-1]
    values = torch.rand(axis.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = {}
    for leaf, part in by_leaf(axis, values, torch.Tensor.sum):
        found[leaf] = found.get(leaf, 0) + part
    for leaf, _ in pool[:3]:
        rows = positions(axis, leaf)
        expected = torch.zeros(leaf.size, dtype=torch.float64)
        for row in rows:
            expected.index_add_(0, row[row >= 0], values[row >= 0])
        assert torch.allclose(found.get(leaf, torch.zeros(leaf.size, dtype=torch.float64)), expected)
    assert sum(math.prod(leaf.size for leaf in term) for term in terms(axis)) == axis.size
