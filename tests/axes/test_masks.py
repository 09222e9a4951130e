"""What masks keep, along every axis."""

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.axes.masks import masks_of
from sparsify.axes.resize import Resizing
from sparsify.masking import masked


@pytest.fixture
def program():
    layers = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    return sp.capture(layers, (torch.randn(3, 2, 4, 4),))


def of(program, masks):
    found = axes(masked(program, masks))
    return found, {str(node.args[1].target): mask for node, mask in masks_of(found).items()}


def out_channels(kept, shape=(6, 2, 3, 3)):
    return torch.tensor(kept, dtype=torch.bool).view(-1, 1, 1, 1).expand(shape)


def test_an_index_is_dead_where_no_weight_is_left(program):
    found, masks = of(program, {"0.weight": out_channels([1, 0, 1, 1, 0, 1])})
    ((channels, dead),) = [(leaf, dead) for leaf, dead in masks["0.weight"].dead().items() if leaf.size == 6]
    assert dead.tolist() == [False, True, False, False, True, False]
    assert channels in {leaf for dims in found.dims.values() for leaf in dims}


def test_a_flattened_channel_is_dead_when_all_its_places_are(program):
    kept = torch.ones(5, 24, dtype=torch.bool)
    kept[:, 4:8] = False  # all of channel 1
    kept[:, 8:11] = False  # not all of channel 2
    _, masks = of(program, {"3.weight": kept})
    assert [dead.tolist() for leaf, dead in masks["3.weight"].dead().items() if leaf.size == 6] == [
        [False, True, False, False, False, False]
    ]


@pytest.mark.parametrize("dense", [False, True])
def test_a_mask_that_keeps_all_that_is_left_is_known(program, dense):
    kept = out_channels([1, 0, 1, 1, 0, 1])
    rest = torch.ones(5, 24, dtype=torch.bool)  # keeps more than what is left
    found, masks = of(program, {"0.weight": kept.contiguous() if dense else kept, "3.weight": rest})
    (channels,) = [leaf for leaf in masks["0.weight"].dead() if leaf.size == 6]
    removed = Resizing(found, {channels: torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.bool)})
    assert masks["0.weight"].keeps_all(removed)
    assert masks["3.weight"].keeps_all(removed)
    assert not masks["0.weight"].keeps_all(Resizing(found, {}))
    assert masks["3.weight"].keeps_all(Resizing(found, {}))


def test_a_mask_with_a_hole_stays(program):
    kept = out_channels([1, 0, 1, 1, 0, 1]).clone()
    kept[0, 0, 1, 1] = False
    found, masks = of(program, {"0.weight": kept})
    (channels,) = [leaf for leaf in masks["0.weight"].dead() if leaf.size == 6]
    assert not masks["0.weight"].keeps_all(Resizing(found, {channels: kept.flatten(1).any(1)}))
