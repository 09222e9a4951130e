import torch
from helpers.residual import mlp, wired
from helpers.stats import block_stats, measure, weight_stats
from torch import nn

from sparsify.blocks import blocks
from sparsify.criteria.wanda import Wanda


def test_formula():
    stats = weight_stats([[1.0, -2.0], [0.5, 0.0]], input_norm=[[3.0, 0.5]])
    assert torch.equal(Wanda().weight(stats), torch.tensor([[3.0, 1.0], [1.5, 0.0]]))


def test_a_small_weight_on_a_large_input_beats_a_large_one_on_a_small_input():
    found = Wanda().weight(weight_stats([[0.1, 1.0]], input_norm=[[100.0, 0.1]]))
    assert found[0, 0] > found[0, 1]


def test_rows_alone_score_as_they_do_together():
    conv = weight_stats(torch.randn(5, 2, 3, 3), input_norm=torch.rand(1, 2, 3, 3))
    assert torch.equal(torch.cat([Wanda().weight(part) for part in conv.rows(2)]), Wanda().weight(conv))


def test_weights_on_a_dead_input_score_nothing():
    model, program = wired(
        lambda s, x: s.b(torch.relu(s.a(x))), (torch.randn(9, 3),), a=nn.Linear(3, 4), b=nn.Linear(4, 2)
    )
    with torch.no_grad():
        model.a.weight[2] = 0.0
        model.a.bias[2] = -1.0
    scores = Wanda().weight(measure(program, Wanda.needs).of_weight("b.weight"))
    assert scores[:, 2].tolist() == [0.0, 0.0]
    assert scores.shape == (2, 4)


def test_a_block_is_the_mean_over_weights_whose_input_is_known():
    known = weight_stats([[2.0, 4.0]], input_norm=[[1.0, 0.5]])
    assert Wanda().block(block_stats(known, weight_stats([[7.0]]))) == 2.0
    _, program = mlp()
    assert Wanda().block(measure(program, Wanda.needs).of_block(blocks(program)[0])) > 0
