import torch
from helpers.stats import weight_stats

from sparsify.criteria.force import Force


def test_formula_and_rounds():
    stats = weight_stats([[1.0, -2.0]], gradient=[[-3.0, 0.5]])
    assert torch.equal(Force().weight(stats), torch.tensor([[3.0, 1.0]]))
    assert Force.rounds == 60


def test_a_weight_that_was_pruned_returns_when_the_pruned_network_needs_it():
    """The weight is the one before pruning, its gradient that of the pruned network."""
    assert Force.regrow
    kept, pruned = weight_stats([0.5], gradient=[0.2]), weight_stats([0.5], gradient=[-3.0])
    assert Force().weight(pruned) > Force().weight(kept)
