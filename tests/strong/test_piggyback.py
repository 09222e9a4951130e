"""Piggyback: weights stay as they are, and masks begin whole."""

import torch

from sparsify.strong.piggyback import Piggyback


def test_everything_is_kept_at_first_and_what_is_above_the_threshold_later():
    scores = Piggyback().scores(torch.empty(3), 3, torch.Generator())
    assert torch.equal(scores, torch.full((3,), 0.01))
    assert Piggyback().mask(scores).all()
    assert Piggyback().mask(torch.tensor([0.004, 0.006, -1.0])).tolist() == [False, True, False]
    assert Piggyback(threshold=0.05).init == "given"


def test_the_gradient_is_that_of_the_mask():
    scores = torch.tensor([0.004, 0.006]).requires_grad_()
    made = Piggyback().weight(torch.tensor([3.0, 4.0]), scores)
    assert made.tolist() == [0.0, 4.0]
    made.sum().backward()
    assert scores.grad.tolist() == [3.0, 4.0]
