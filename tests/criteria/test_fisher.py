import torch
from helpers.gates import TASK, hidden
from helpers.stats import block_stats, measure, weight_stats

from sparsify.criteria.fisher import Fisher


def test_formula():
    stats = weight_stats([1.0, -2.0], squared_gradient=[3.0, 0.5])
    assert torch.equal(Fisher().weight(stats), torch.tensor([3.0, 0.5]))


def test_a_block_is_the_mean():
    assert Fisher().block(block_stats(weight_stats([0.0, 0.0], squared_gradient=[3.0, 1.0]))) == 2.0


def test_examples_whose_gradients_cancel_still_count():
    _, program, _ = hidden()
    measured = measure(program, ("squared-gradient", "gradient"), TASK)
    assert (Fisher().weight(measured.of_weight("a.weight")) > measured.found["gradient"]["a.weight"].square()).all()


def test_a_weight_of_zero_may_matter_for_training():
    """The weight itself is no part of the score, as for a mask of weights that are trained."""
    stats = weight_stats([0.0, 5.0], squared_gradient=[3.0, 0.5])
    assert int(Fisher().weight(stats).argmax()) == 0
