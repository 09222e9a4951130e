"""Slot machines: the value of the highest score, and gradients for the others, too."""

import torch

from sparsify.strong.slot_machines import SlotMachines

VALUES = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
SCORES = torch.tensor([[0.1, 0.9], [0.7, 0.2], [0.3, 0.9]])


def test_the_value_of_the_highest_score_is_taken_of_equal_ones_the_first():
    weight, mask = SlotMachines(values=3).result(VALUES, SCORES)
    assert weight.tolist() == [2.0, 10.0]
    assert mask is None


def test_every_value_gets_a_gradient():
    scores = SCORES.clone().requires_grad_()
    made = SlotMachines(values=3).weight(VALUES, scores)
    assert made.tolist() == [2.0, 10.0]
    made.sum().backward()
    assert torch.equal(scores.grad, VALUES)


def test_scores_start_above_zero():
    scores = SlotMachines(values=3).scores(torch.empty(3, 50, 50), 25, torch.Generator().manual_seed(0))
    assert scores.shape == (3, 50, 50)
    assert float(scores.min()) >= 0
    assert 0.19 < float(scores.max()) <= 0.2
