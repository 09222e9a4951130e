import torch
from helpers.stats import block_stats, weight_stats

from sparsify.criteria.magnitude import Magnitude


def test_formula():
    scores = Magnitude().weight(weight_stats([[1.0, -2.0], [0.0, -0.5]]))
    assert torch.equal(scores, torch.tensor([[1.0, 2.0], [0.0, 0.5]]))


def test_a_block_is_the_mean_over_all_its_weights():
    assert Magnitude().block(block_stats([[1.0, -3.0]], [[2.0], [2.0], [-2.0], [2.0]])) == 2.0


def test_blocks_of_different_width_compare():
    narrow, wide = block_stats(torch.full((2, 2), 0.3)), block_stats(torch.full((64, 64), -0.2))
    assert Magnitude().block(narrow) > Magnitude().block(wide)


def test_a_block_without_weights_of_its_own():
    assert Magnitude().block(block_stats()) == 0.0
