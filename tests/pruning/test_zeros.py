import torch
from helpers.command import small_program
from torch import nn

import sparsify as sp
from sparsify.pruning.zeros import zero_masks


def half_zero():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight[:, :2] = 0
    return sp.capture(net, (torch.randn(2, 4),))


def test_layers_with_zeros_have_masks_that_keep_the_rest():
    (name,), (mask,) = zip(*zero_masks(half_zero()), strict=True)
    assert name == "0.weight"
    assert mask.tolist() == [[False, False, True, True]] * 4
    assert list(zero_masks(half_zero(), 0.51)) == []


def test_masked_and_frozen_weights_are_left_out():
    assert list(zero_masks(small_program())) == []
    masked = sp.run(half_zero(), ["mask-zeros"]).program
    assert list(zero_masks(masked)) == []
    frozen = sp.run(half_zero(), ["freeze:sparsity=0.5,only=0.weight"]).program
    assert list(zero_masks(frozen)) == []
