"""Edge-popup: the highest |s| are kept, and their gradient is that of the mask."""

import torch

from sparsify.strong.edge_popup import EdgePopup

SCORES = torch.tensor([[0.1, -0.9], [0.5, -0.2]])
THETA = torch.tensor([[1.0, 2.0], [-3.0, 4.0]])


def test_the_highest_magnitudes_are_kept():
    value, mask = EdgePopup().result(THETA, SCORES)
    assert value is THETA
    assert mask.tolist() == [[False, True], [True, False]]
    assert int(EdgePopup(sparsity=0.75).mask(SCORES).sum()) == 1


def test_the_gradient_is_that_of_the_magnitude():
    scores = SCORES.clone().requires_grad_()
    made = EdgePopup().weight(THETA, scores)
    assert torch.equal(made, torch.tensor([[0.0, 2.0], [-3.0, 0.0]]))
    (made * torch.tensor([[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    assert torch.equal(scores.grad, torch.tensor([[1.0, -20.0], [-300.0, -4000.0]]))


def test_equal_scores_are_an_exact_number_still():
    assert int(EdgePopup(sparsity=0.7).mask(torch.ones(10, 10)).sum()) == 30


def test_weights_are_scaled_for_what_is_left():
    assert torch.equal(EdgePopup(sparsity=0.75).begin(THETA), 2 * THETA)
    assert EdgePopup(sparsity=0.75, rescale=False).begin(THETA) is THETA


def test_scores_start_within_one_over_the_root_of_the_fan_in():
    scores = EdgePopup().scores(torch.empty(100, 100), 25, torch.Generator().manual_seed(0))
    assert 0.19 < float(scores.abs().max()) <= 0.2
    assert abs(float(scores.mean())) < 0.01
