import torch
from helpers.stats import block_stats, weight_stats

from sparsify.criteria.snip import Snip


def test_formula():
    stats = weight_stats([[1.0, -2.0], [0.5, 0.0]], gradient=[[-3.0, 0.5], [2.0, 9.0]])
    assert torch.equal(Snip().weight(stats), torch.tensor([[3.0, 1.0], [1.0, 0.0]]))


def test_the_product_with_the_weight_decides_not_the_gradient_alone():
    steep, large = weight_stats([0.1], gradient=[5.0]), weight_stats([4.0], gradient=[1.0])
    assert Snip().weight(steep) < Snip().weight(large)


def test_a_block_is_the_mean():
    two = block_stats(weight_stats([2.0, 0.0], gradient=[1.0, 7.0]), weight_stats([-3.0], gradient=[1.0]))
    assert Snip().block(two) == (2 + 0 + 3) / 3
