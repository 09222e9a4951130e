import pytest
import torch
from helpers.residual import mlp
from helpers.stats import block_stats, measure, weight_stats

from sparsify.blocks import blocks
from sparsify.criteria.random import Random


def test_scores_are_uniform_and_reproducible():
    one, two, other = (Random().weight(weight_stats(torch.zeros(1000), seed=s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert 0 <= one.min() <= one.max() < 1
    assert float(one.mean()) == pytest.approx(0.5, abs=0.05)  # five standard deviations of a mean of 1000


def test_a_block_gets_one_draw_not_a_mean():
    draws = [Random().block(block_stats(torch.zeros(100, 100), seed=seed)) for seed in range(50)]
    assert max(draws) - min(draws) > 0.5


def test_scores_depend_on_the_seed_and_the_name_and_not_on_the_order():
    _, program = mlp()
    found = blocks(program)

    def scores(seed, order):
        statistics = measure(program, [], None, seed=seed)
        return {block.name: Random().block(statistics.of_block(block)) for block in order}

    assert scores(0, found) == scores(0, found[::-1]) == scores(0, found)
    assert scores(0, found) != scores(1, found)
    assert len(set(scores(0, found).values())) == 3
