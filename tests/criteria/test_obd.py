import torch
from helpers.regression import Regression
from helpers.residual import wired
from helpers.stats import block_stats, measure, weight_stats
from torch import nn

from sparsify.criteria.obd import Obd


def test_formula():
    stats = weight_stats([[1.0, -2.0]], hessian_diagonal=[[3.0, 0.5]])
    assert torch.equal(Obd().weight(stats), torch.tensor([[1.5, 1.0]]))


def test_it_is_the_rise_of_a_quadratic_loss_at_its_minimum():
    class Bowl(Regression):
        def loss(self, model, batch):
            return (curvature * (next(model.parameters()) - goal).square()).sum() / 2

    model, program = wired(lambda s, x: s.a(x), (torch.randn(2, 3),), a=nn.Linear(3, 2, bias=False))
    curvature, goal = torch.tensor([[1.0, 2.0, 0.5], [7.0, 3.0, 100.0]]), model.a.weight.detach().clone()
    scores = Obd().weight(measure(program, Obd.needs, Bowl()).of_weight("a.weight"))
    torch.testing.assert_close(scores, curvature * goal.square() / 2)


def test_no_weight_looks_better_than_useless_where_the_loss_curves_down():
    stats = weight_stats([3.0, 1.0, -2.0, 0.0], hessian_diagonal=[-5.0, -5.0, 5.0, 5.0])
    scores = Obd().weight(stats)
    assert (scores >= 0).all()
    assert scores[2] > scores[0] > scores[1] > scores[3]


def test_a_block_is_the_mean():
    assert Obd().block(block_stats(weight_stats([1.0, -1.0], hessian_diagonal=[3.0, 1.0]))) == 1.0
