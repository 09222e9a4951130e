import torch
from helpers.residual import wired
from helpers.stats import block_stats, measure, weight_stats
from torch import nn

from sparsify.criteria.inbound import Inbound


def test_a_weight_has_the_variance_of_its_slice():
    variance = torch.tensor([[2.0, 3.0]]).view(1, 2, 1, 1).expand(1, 2, 2, 1)
    stats = weight_stats(torch.ones(1, 2, 2, 1), response_variance=variance)
    assert Inbound().weight(stats).flatten().tolist() == [2.0, 2.0, 3.0, 3.0]


def test_a_zero_does_not_live_on_its_neighbours():
    stats = weight_stats([[[0.0, -1.0]]], response_variance=[[[5.0, 5.0]]])
    assert Inbound().weight(stats).tolist() == [[[0.0, 5.0]]]


def test_a_large_constant_input_is_worth_less_than_a_small_one_that_changes():
    x = torch.randn(20, 3, 6, 6)
    x[:, 0] = 50.0
    model, program = wired(lambda s, x: s.a(x), (x,), a=nn.Conv2d(3, 2, 3))
    scores = Inbound().weight(measure(program, Inbound.needs).of_weight("a.weight"))
    assert scores.shape == model.a.weight.shape
    assert scores[:, 0].max() < 1e-3 * scores[:, 1:].min()  # rounding of large norms


def test_a_block_is_the_mean():
    weights = weight_stats([[1.0, 1.0]], response_variance=[[1.0, 4.0]])
    assert Inbound().block(block_stats(weights)) == 2.5
