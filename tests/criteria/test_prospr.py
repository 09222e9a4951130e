import torch
from helpers.gates import TASK, hidden
from helpers.stats import block_stats, measure, weight_stats

from sparsify.criteria.prospr import Prospr


def test_formula():
    stats = weight_stats([[1.0, -2.0]], meta_gradient=[[-3.0, 0.5]])
    assert torch.equal(Prospr().weight(stats), torch.tensor([[3.0, 1.0]]))


def test_a_block_is_the_mean():
    assert Prospr().block(block_stats(weight_stats([1.0, -1.0], meta_gradient=[3.0, 1.0]))) == 2.0


def test_what_nobody_reads_comes_last_even_after_training():
    """Weights into a unit that never speaks and never learns to."""
    model, program, _ = hidden()
    with torch.no_grad():
        model.a.weight[2], model.a.bias[2], model.b.weight[:, 2] = 0, 0, 0
    scores = Prospr().weight(measure(program, Prospr.needs, TASK).of_weight("a.weight"))
    assert torch.equal(scores[2], torch.zeros(3))
    assert (scores[[0, 1, 3, 4]].sum(1) > 0).all()
