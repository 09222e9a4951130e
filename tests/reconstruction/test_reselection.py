"""Reselection: as many channels as before, chosen again group after group; masks of single weights are not undone."""

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.errors import PassError
from sparsify.groups import groups_of
from sparsify.layers import layers
from sparsify.masking import masked, unmasked
from sparsify.observation.calibration import Calibration
from sparsify.pruning.reference import member_masks
from sparsify.reconstruction.channels import contributions, greedy, index_of
from sparsify.reconstruction.moments import moments
from sparsify.reconstruction.reselection import reselected

NAMES = ["0.weight", "2.weight"]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


@pytest.fixture(scope="module")
def whole():
    return sp.capture(net(), (torch.randn(50, 5),))


@pytest.fixture(scope="module")
def pruned(whole):
    return sp.run(whole, ["channel-prune:sparsity=0.5"]).program


def kept(program):
    """Return which channels of both hidden layers stay, by the masks of their biases."""
    return [program.masks[name].tolist() for name in ("0.bias", "2.bias")]


def first(products, count):
    return torch.arange(len(products)) < count


def test_the_masks_are_those_of_the_channels_chosen(whole, pruned):
    found, changed = reselected(pruned, unmasked(pruned), first, Calibration(None))
    assert kept(found) == [[True] * 4 + [False] * 4, [True] * 3 + [False] * 3]
    before = kept(pruned)
    assert changed == {"0": sum(not item for item in before[0][:4]), "2": sum(not item for item in before[1][:3])}
    assert sum(changed.values()) > 0
    mask = found.masks["2.weight"]
    assert torch.equal(mask, (torch.arange(6) < 3)[:, None] & (torch.arange(8) < 4)[None])
    assert all(torch.equal(value, whole.parameters[name]) for name, value in found.parameters.items())


def test_the_program_given_is_not_changed(pruned):
    text, masks = str(pruned), {name: mask.clone() for name, mask in pruned.masks.items()}
    reselected(pruned, unmasked(pruned), first, Calibration(None))
    assert str(pruned) == text
    assert all(torch.equal(mask, masks[name]) for name, mask in pruned.masks.items())


def test_each_group_is_chosen_behind_what_was_chosen_before(whole, pruned):
    seen = []

    def choose(products, count):
        seen.append(products)
        return first(products, count)

    reselected(pruned, unmasked(pruned), choose, Calibration(None))
    found = axes(whole)
    one, two = [group for group in groups_of(found) if not group.frozen]
    behind = masked(whole, member_masks(found, {one.axis: torch.arange(8) < 4}))
    for program, group, layer, products in ((whole, one, 1, seen[0]), (behind, two, 2, seen[1])):
        reader = layers(program)[layer]
        weight = program.parameters[reader.parameter]
        gram = moments(program, None, [reader.parameter], Calibration(None))[reader.parameter].gram
        index = index_of(group, reader.parameter, 1, weight.shape)
        expected = contributions(weight, reader.layout, gram, index, group.size)
        torch.testing.assert_close(products, expected / expected.diagonal().sum())


def test_what_its_readers_can_miss_goes(whole):
    """A channel with large weights that nobody reads is the first to go."""
    model = net()
    with torch.no_grad():
        model[0].weight[2] *= 100
        model[2].weight[:, 2] *= 1e-4
    program = sp.run(sp.capture(model, (torch.randn(50, 5),)), ["channel-prune:sparsity=0.25,protect=4.weight"]).program
    assert program.masks["0.bias"][2]
    found, changed = reselected(program, unmasked(program), greedy, Calibration(None))
    assert not found.masks["0.bias"][2]
    assert changed["0"] >= 1
    assert list(changed) == ["0"]


def test_masks_of_single_weights_are_refused(whole, pruned):
    mask = torch.rand(8, 5, generator=torch.Generator().manual_seed(0)) > 0.2
    for program in (masked(whole, {"0.weight": mask}), masked(pruned, {"0.weight": mask})):
        with pytest.raises(PassError, match=r"mask of 0\.weight is not made of whole channels.*right after channel-pr"):
            reselected(program, unmasked(program), greedy, Calibration(None))
