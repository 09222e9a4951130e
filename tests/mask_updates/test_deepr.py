import math

import pytest
import torch
from helpers.sparse import stats

from sparsify.mask_updates.deepr import Deepr


def seen(rule, mask, weight, **more):
    gradient = torch.zeros(mask.shape)
    rule.observe(stats(mask, weight, gradient, **more))
    return gradient


def test_the_penalty_pulls_to_zero_and_noise_is_that_of_the_temperature():
    weight = torch.cat([torch.full((20_000,), 2.0), torch.full((20_000,), -2.0)])
    mask = torch.ones(40_000, dtype=torch.bool)
    gradient = seen(Deepr(penalty=0.5, temperature=0.02), mask, weight, rate=0.1)
    assert float(gradient[:20_000].mean()) == pytest.approx(0.5, abs=0.02)
    assert float(gradient[20_000:].mean()) == pytest.approx(-0.5, abs=0.02)
    step = 0.1 * gradient  # of plain SGD: its noise is √(2 T η)
    assert float(step[:20_000].std()) == pytest.approx(math.sqrt(2 * 0.02 * 0.1), rel=0.03)


def test_pruned_weights_are_left_alone():
    mask = torch.tensor([True, False])
    gradient = seen(Deepr(penalty=0.5, temperature=0.1), mask, torch.tensor([1.0, 0.0]))
    assert gradient[0] != 0
    assert gradient[1] == 0


def test_a_weight_whose_sign_flips_goes_and_a_random_one_comes():
    mask = torch.tensor([True, True, True, False, False, False])
    rule = Deepr()
    seen(rule, mask, torch.tensor([1.0, -1.0, 2.0, 0, 0, 0]))
    came = set()
    for seed in range(12):
        after = torch.tensor([1.0, 0.5, 2.0, 0, 0, 0])  # the second one has flipped
        found = rule.masks(stats(mask, after, seed=seed))["w"]
        assert found[[0, 2]].all()
        assert int(found.sum()) == 3
        came.add(int((found & ~torch.tensor([True, False, True, False, False, False])).nonzero()))
        rule.state["w"][1] = -1
    assert came == {1, 3, 4, 5}


def test_a_weight_that_came_has_a_random_sign():
    mask, signs = torch.tensor([True] + [False] * 7), set()
    for seed in range(20):
        rule = Deepr()
        seen(rule, mask, torch.tensor([1.0] + [0.0] * 7))
        found = rule.masks(stats(mask, torch.tensor([-1.0] + [0.0] * 7), seed=seed))["w"]
        signs.add(float(rule.state["w"][found]))
    assert signs == {-1.0, 1.0}
