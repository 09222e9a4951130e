import torch
from helpers.sparse import run, started, stats

from sparsify.mask_updates.sr_ste import SrSte


def test_the_largest_of_every_group_compute():
    weight = torch.tensor([[1.0, -4.0, 3.0, 2.0]])
    rule, mask = started(SrSte(), torch.ones(1, 4, dtype=torch.bool), weight)
    assert mask.tolist() == [[False, True, True, False]]
    assert weight.tolist() == [[0.0, -4.0, 3.0, 0.0]]  # what computes
    assert rule.state["w"].tolist() == [[1.0, -4.0, 3.0, 2.0]]  # what is trained


def test_pruned_weights_get_the_gradient_and_shrink():
    weight = torch.tensor([[1.0, -4.0, 3.0, 2.0]])
    rule, mask = started(SrSte(penalty=0.1), torch.ones(1, 4, dtype=torch.bool), weight)
    gradient = torch.full((1, 4), 0.5)
    rule.observe(stats(mask, weight, gradient))
    torch.testing.assert_close(gradient, torch.tensor([[0.6, 0.5, 0.5, 0.7]]))  # + λ θ where it is pruned
    assert weight.tolist() == [[1.0, -4.0, 3.0, 2.0]]  # for the optimizer
    weight[0, 0] = 5.0
    assert rule.masks(stats(mask, weight))["w"].tolist() == [[True, True, False, False]]
    assert weight.tolist() == [[5.0, -4.0, 0.0, 0.0]]


def test_a_training_ends_with_n_of_m():
    trained = run("sr-ste", pattern="1:4")
    for mask in trained.program.masks.values():
        assert bool((mask.view(-1, 4).sum(1) == 1).all())
    assert SrSte.dense
