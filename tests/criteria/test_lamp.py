import pytest
import torch
from helpers.residual import mlp
from helpers.stats import block_stats, measure, weight_stats
from hypothesis import given
from hypothesis import strategies as st

from sparsify.blocks import blocks
from sparsify.criteria.lamp import Lamp


def test_formula():
    found = Lamp().weight(weight_stats([[1.0, -3.0], [2.0, 0.0]]))
    expected = torch.tensor([[1 / 14, 1.0], [4 / 13, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=12))
def test_the_definition_written_out(values):
    weights = torch.tensor(values)
    squares = weights.double() ** 2
    order = sorted(range(len(values)), key=lambda i: (abs(values[i]), i))
    found = Lamp().weight(weight_stats(weights)).tolist()
    for place, index in enumerate(order):
        not_smaller = float(squares[order[place:]].sum())
        assert found[index] == pytest.approx(float(squares[index]) / not_smaller if not_smaller else 0.0, rel=1e-9)


def test_the_largest_weight_of_each_layer_scores_one_and_stays_longest():
    tiny, huge = torch.randn(40, 30) * 1e-4, torch.randn(20, 10) * 1e4
    scores = [Lamp().weight(weight_stats(weight)) for weight in (tiny, huge)]
    assert [float(score.max()) for score in scores] == [1.0, 1.0]
    assert all(int((score > 0.5).sum()) == 1 for score in scores)
    kept = torch.cat([score.reshape(-1) for score in scores]).topk(2).indices
    assert sorted(kept.tolist()) == sorted([int(tiny.abs().argmax()), 1200 + int(huge.abs().argmax())])


def test_ties_are_broken_in_the_same_way_every_time():
    found = Lamp().weight(weight_stats(torch.ones(4)))
    assert found.tolist() == [1 / 4, 1 / 3, 1 / 2, 1.0]


def test_sums_over_many_weights_are_exact_enough_to_rank():
    weights = torch.linspace(1.0, 1.01, 200_000)
    assert bool((Lamp().weight(weight_stats(weights)).diff() > 0).all())


def test_an_empty_tensor_scores_nothing():
    assert Lamp().weight(weight_stats(torch.zeros(2, 3))).tolist() == [[0.0] * 3] * 2


def test_a_block_is_the_mean():
    assert Lamp().block(block_stats([[1.0, 2.0]])) == pytest.approx((1 / 5 + 1) / 2)
    _, program = mlp()
    found = measure(program, [], None)
    assert 0 < Lamp().block(found.of_block(blocks(program)[0])) < 1
