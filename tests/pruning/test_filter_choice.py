"""Masks of whole filters."""

import torch
from torch import nn

import sparsify as sp
from sparsify.layers import layers
from sparsify.observation.calibration import Calibration
from sparsify.pruning.filter_choice import filter_masks


def masks(model, x, sparsity):
    program = sp.capture(model, (x,))
    found = {layer.parameter: layer.layout for layer in layers(program)}
    return filter_masks(program, found, "magnitude", Calibration(None), sparsity)


def test_the_largest_filters_are_kept():
    model = nn.Conv2d(2, 4, 3)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([1.0, 4.0, 3.0, 2.0])[:, None, None, None].expand_as(model.weight))
    assert masks(model, torch.randn(1, 2, 5, 5), 0.5)["weight"].all((1, 2, 3)).tolist() == [False, True, True, False]


def test_outputs_of_a_transposed_convolution_are_a_channel_at_a_place():
    model = nn.ConvTranspose2d(3, 2, 2)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.weight[:, 1, 0, 1] = 2.0
    mask = masks(model, torch.randn(1, 3, 5, 5), 0.875)["weight"]
    assert mask.nonzero()[:, 1:].unique(dim=0).tolist() == [[1, 0, 1]]
    assert mask.sum() == 3
