"""Masks of whole channels are recognised, with what each group keeps; all others are not."""

import functools

import pytest
import torch
from helpers.residual import resnet
from helpers.zoo import FAMILIES

import sparsify as sp
from sparsify.axes import axes
from sparsify.groups import groups_of
from sparsify.masking import masked
from sparsify.pruning.channel_masks import kept_channels
from sparsify.pruning.reference import member_masks


@functools.cache
def program_of(name):
    if name == "small":
        return resnet()[1]
    model, args, kwargs = FAMILIES[name]()
    return sp.capture(model, args, kwargs)


def without(program, count=1):
    """Mask some channels of every group in which masking is removing; return what each keeps."""
    found = axes(program)
    groups = [group for group in groups_of(found) if not group.frozen and group.exact]
    keep = {group.axis: torch.arange(group.size) >= min(count, group.size - 1) for group in groups if group.size > 1}
    kept = {group.name: keep[group.axis] for group in groups if group.axis in keep}
    return masked(program, member_masks(found, keep)), kept


@pytest.mark.parametrize("name", ["small", "resnet", "mobilenetv2", "regnet", "gpt2", "llama"])
def test_it_finds_what_was_masked(name):
    program, kept = without(program_of(name))
    known, groups = kept_channels(program)
    assert {group.name: keep.tolist() for group, keep in groups.items()} == {
        group: keep.tolist() for group, keep in kept.items()
    }
    assert known.program.masks == {}


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_it_finds_what_channel_prune_masked(scope):
    result = sp.run(program_of("small"), [f"channel-prune:sparsity=0.5,scope={scope}"])
    _, groups = kept_channels(result.program)
    found = {group.name: f"{group.size} -> {int(keep.sum())}" for group, keep in groups.items()}
    assert found == result.report["passes"][0]["groups"]


def test_two_prunings_of_channels_are_one():
    once = sp.run(program_of("small"), ["channel-prune:sparsity=0.25,scope=global"]).program
    twice = sp.run(once, ["channel-prune:sparsity=0.5,scope=global"]).program
    _, groups = kept_channels(twice)
    known = axes(program_of("small"))
    keep = {group.axis: groups_by(groups)[group.name] for group in groups_of(known) if group.name in groups_by(groups)}
    expected = member_masks(known, keep)
    assert expected.keys() == twice.masks.keys()
    assert all(torch.equal(mask, expected[name]) for name, mask in twice.masks.items())


def groups_by(groups):
    return {group.name: keep for group, keep in groups.items()}


@pytest.mark.parametrize("pass_", ["sparsity=0.5", "pattern=2:4", "sparsity=0.5,pattern=block2x2"])
def test_masks_of_single_weights_are_not_those_of_channels(pass_):
    program = sp.run(program_of("small"), [f"weight-prune:{pass_},allow_collapse=yes"]).program
    assert kept_channels(program) in program.masks


def test_one_more_weight_is_no_channel():
    program, _ = without(program_of("small"))
    mask = torch.ones_like(program.masks["layer1.0.conv2.weight"])
    mask[-1, -1, 0, 0] = False
    assert kept_channels(masked(program, {"layer1.0.conv2.weight": mask})) == "layer1.0.conv2.weight"


@pytest.mark.parametrize("layer", ["layer1.0.conv1", "layer1.0.bn1", "layer1.0.conv2"])
def test_the_rows_of_one_parameter_alone_are_no_channel(layer):
    program = program_of("small")
    mask = torch.ones_like(program.parameters[f"{layer}.weight"], dtype=torch.bool)
    mask[0] = False
    assert isinstance(kept_channels(masked(program, {f"{layer}.weight": mask})), str)


def test_masks_that_keep_all_are_those_of_no_channel():
    program = program_of("small")
    assert kept_channels(program)[1] == {}
