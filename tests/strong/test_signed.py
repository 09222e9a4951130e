"""Signed supermasks: scores keep, hide and invert."""

import torch

from sparsify.strong.signed import Signed

SCORES = torch.tensor([0.5, -0.5, 0.005, -0.005])
THETA = torch.tensor([2.0, -2.0, 2.0, 2.0])


def test_weights_are_kept_turned_round_or_left_out():
    weight, mask = Signed().result(THETA, SCORES)
    assert torch.where(mask, weight, 0.0).tolist() == [2.0, 2.0, 0.0, 0.0]
    assert Signed(threshold=0.001).result(THETA, SCORES)[1].all()


def test_the_gradient_passes_straight_through():
    scores = SCORES.clone().requires_grad_()
    made = Signed().weight(THETA, scores)
    assert made.tolist() == [2.0, 2.0, 0.0, 0.0]
    made.sum().backward()
    assert torch.equal(scores.grad, THETA)
