import torch
from helpers.stats import block_stats, weight_stats

from sparsify.criteria.taylor import Taylor


def test_formula():
    stats = weight_stats([[1.0, -2.0], [0.5, 0.0]], gradient=[[-3.0, 0.5], [2.0, 9.0]])
    assert torch.equal(Taylor().weight(stats), torch.tensor([[9.0, 1.0], [1.0, 0.0]]))


def test_a_block_is_the_mean_of_squares_so_that_signs_do_not_cancel():
    assert Taylor().block(block_stats(weight_stats([1.0, -1.0], gradient=[3.0, 3.0]))) == 9.0
