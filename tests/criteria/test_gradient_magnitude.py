import torch
from helpers.stats import block_stats, weight_stats

from sparsify.criteria.gradient_magnitude import GradientMagnitude


def test_formula():
    stats = weight_stats([[1.0, -2.0], [0.5, 0.0]], gradient=[[-3.0, 0.5], [2.0, 9.0]])
    assert torch.equal(GradientMagnitude().weight(stats), torch.tensor([[3.0, 2.0], [0.5, 0.0]]))


def test_of_two_weights_with_the_same_effect_the_larger_stays():
    steep, large = weight_stats([0.1], gradient=[10.0]), weight_stats([10.0], gradient=[0.1])
    assert GradientMagnitude().weight(steep) < GradientMagnitude().weight(large)


def test_a_block_is_the_mean():
    two = block_stats(weight_stats([2.0, 0.0], gradient=[-1.0, 7.0]), weight_stats([-3.0], gradient=[1.0]))
    assert GradientMagnitude().block(two) == (4 + 0 + 9) / 3
