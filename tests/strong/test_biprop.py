"""Biprop: signs times the mean of what is kept."""

import torch

from sparsify.strong.biprop import Biprop

SCORES = torch.tensor([0.1, -0.9, 0.5, -0.2])
THETA = torch.tensor([1.0, 2.0, -4.0, 4.0])


def test_weights_have_one_size_the_mean_of_those_that_are_kept():
    value, mask = Biprop().result(THETA, SCORES)
    assert value.tolist() == [3.0, 3.0, -3.0, 3.0]
    assert mask.tolist() == [False, True, True, False]


def test_the_gradient_is_that_of_the_binary_weight():
    scores = SCORES.clone().requires_grad_()
    made = Biprop().weight(THETA, scores)
    assert made.tolist() == [0.0, 3.0, -3.0, 0.0]
    made.sum().backward()
    assert scores.grad.tolist() == [3.0, -3.0, -3.0, -3.0]
