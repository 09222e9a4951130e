import torch
from helpers.stats import weight_stats

from sparsify import registry
from sparsify.criteria.iterative_snip import IterativeSnip


def test_formula_and_rounds():
    stats = weight_stats([[1.0, -2.0]], gradient=[[-3.0, 0.5]])
    assert torch.equal(IterativeSnip().weight(stats), torch.tensor([[3.0, 1.0]]))
    assert (IterativeSnip.rounds, IterativeSnip.regrow) == (60, False)


def test_the_registry_knows_what_it_scores():
    entry = registry.find("sparsify.criteria", "iterative-snip")
    assert entry.scores == () or set(entry.scores) == set(IterativeSnip.scores)
    assert entry.needs == ("gradient",)
