"""IteRand: of what is left out an exact share is drawn anew, and nothing else."""

import torch

from sparsify.strong.iterand import Iterand


def test_an_exact_share_of_what_is_left_out_is_fresh():
    scores, weight, fresh = torch.arange(100.0).view(10, 10), torch.zeros(10, 10), torch.ones(10, 10)
    way = Iterand(sparsity=0.6, share=0.25)
    found = way.renewed(weight, scores, fresh, torch.Generator().manual_seed(0))
    assert int(found.sum()) == 15
    assert not found[way.mask(scores)].any()
    assert not weight.any()
    other = way.renewed(weight, scores, fresh, torch.Generator().manual_seed(1))
    assert not torch.equal(found, other)


def test_everything_that_is_left_out_can_be_fresh():
    scores = torch.tensor([0.1, 0.9])
    found = Iterand(share=1.0).renewed(torch.zeros(2), scores, torch.ones(2), torch.Generator())
    assert found.tolist() == [1.0, 0.0]
