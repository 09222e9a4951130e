import torch
from helpers.sparse import run, started, stats

from sparsify.mask_updates.srigl import Srigl


def test_every_output_starts_with_the_same_number():
    mask = torch.tensor([[True, True, True, False], [False, False, False, True]])
    _, first = started(Srigl(), mask)
    assert first.tolist() == [[True, True, False, False], [True, False, False, True]]
    _, empty = started(Srigl(), torch.tensor([[True, False], [False, False], [False, False]]))
    assert empty.sum(1).tolist() == [1, 1, 1]


def test_it_drops_in_the_layer_and_grows_in_each_output():
    mask = torch.tensor([[True, True, False, False], [True, True, False, False]])
    weight = torch.tensor([[0.1, 0.2, 0, 0], [3.0, 4.0, 0, 0]])
    gradient = torch.tensor([[0.0, 0.0, 5.0, 6.0], [0.0, 0.0, 9.0, 9.0]])
    rule, _ = started(Srigl(alpha=0.5), mask)
    found = rule.masks(stats(mask, weight, gradient, step=0))["w"]
    assert found.tolist() == [[False, False, True, True], [True, True, False, False]]


def test_a_training_keeps_the_fan_in():
    for mask in run("srigl").program.masks.values():
        assert len(set(mask.sum(1).tolist())) == 1
