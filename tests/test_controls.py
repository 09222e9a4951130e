"""Controls: of every layer exactly as much stays as in the pruned network, but something else."""

import functools

import pytest
import torch
from helpers.residual import resnet
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.controls import chosen_again, small_dense
from sparsify.errors import PassError
from sparsify.observation.calibration import Calibration
from sparsify.pruning.channel_masks import kept_channels

NETWORKS = ("conv", "gpt2", "llama")
PATTERNS = ("unstructured", "2:4", "block2x4")


@functools.cache
def program_of(name):
    if name == "conv":
        return resnet()[1]
    model, args, kwargs = FAMILIES[name]()
    return sp.capture(model, args, kwargs)


@functools.cache
def pruned(name, pattern):
    """Prune with the pattern; at 60%, of which no whole number of weights is a whole layer."""
    amount = "" if pattern == "2:4" else ",sparsity=0.6"
    spec = f"weight-prune:pattern={pattern}{amount},allow_collapse=yes"
    return sp.run(program_of(name), [spec]).program


@functools.cache
def narrowed(name):
    return sp.run(program_of(name), ["channel-prune:sparsity=0.4,scope=global"]).program


def again(program, criterion="random", seed=0, lowest=False):
    return chosen_again(program, criterion, Calibration(None, seed=seed), lowest=lowest)


def counts(program):
    return {name: int(mask.sum()) for name, mask in program.masks.items()}


def planes(program, transposed):
    """Return the masks as one matrix for each position of a kernel; rows are outputs."""
    for name, mask in program.masks.items():
        matrix = mask.T if transposed else mask
        yield name, mask.flatten(2).permute(2, 0, 1).unbind() if mask.ndim > 2 else [matrix]


def tiles(masks):
    """Return how many tiles of 2 by 4 stay; none may be cut."""
    parts = [tile for mask in masks for rows in mask.split(2) for tile in rows.split(4, 1)]
    assert all(tile.all() or not tile.any() for tile in parts)
    return sum(bool(tile.any()) for tile in parts)


def widths(program):
    _, groups = kept_channels(program)
    return {group.name: int(keep.sum()) for group, keep in groups.items()}


def same_masks(one, other):
    return all(torch.equal(mask, other.masks[name]) for name, mask in one.masks.items())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_of_every_layer_as_many_weights_stay_and_others(name, pattern):
    program = pruned(name, pattern)
    control = again(program)
    if pattern.startswith("block"):  # tiles at the edges are smaller
        assert all(tiles(masks) >= 0 for _, masks in planes(control, name == "gpt2"))
        found = counts(control)
        assert all(abs(found[n] - count) <= 4 for n, count in counts(program).items())
    else:
        assert counts(control) == counts(program)
    changed = [n for n, mask in program.masks.items() if not torch.equal(mask, control.masks[n])]
    partly = [n for n, mask in program.masks.items() if mask.any() and not mask.all()]
    assert len(changed) >= 0.9 * len(partly)  # a mask of few tiles may be the same by chance


@pytest.mark.parametrize("name", NETWORKS)
def test_n_of_m_stays_n_of_m(name):
    dim = 0 if name == "gpt2" else 1
    control = again(pruned(name, "2:4"))
    for mask in control.masks.values():
        assert (mask.movedim(dim, -1).reshape(-1, 4).sum(1) == 2).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_become_other_channels_of_the_same_groups(name):
    program = narrowed(name)
    control = again(program)
    assert widths(control) == widths(program)
    assert counts(control) == counts(program)
    assert not same_masks(control, program)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_are_those_before_pruning(name):
    for program in (pruned(name, "unstructured"), narrowed(name)):
        control = again(program)
        assert control.parameters.keys() == program.parameters.keys()
        assert all(torch.equal(value, program_of(name).parameters[n]) for n, value in control.parameters.items())


def test_the_lowest_stay():
    program = pruned("conv", "unstructured")
    control = again(program, "magnitude", lowest=True)
    for name, mask in control.masks.items():
        magnitudes, left = program.parameters[name].detach().abs(), int(program.masks[name].sum())
        assert int(mask.sum()) == left
        assert magnitudes[mask].sum() == pytest.approx(float(magnitudes.flatten().sort().values[:left].sum()), rel=1e-5)


def test_the_two_lowest_of_four_stay():
    program = pruned("llama", "2:4")
    control = again(program, "magnitude", lowest=True)
    for name, mask in control.masks.items():  # the two highest stayed before
        assert torch.equal(mask, ~program.masks[name])


def test_the_lowest_tiles_stay():
    program = pruned("llama", "block2x4")
    control = again(program, "magnitude", lowest=True)
    whole = [(name, mask) for name, mask in control.masks.items() if not any(n % 4 for n in mask.shape)]
    assert len(whole) > 10
    for name, mask in whole:
        rows, columns = mask.shape
        sums = program.parameters[name].detach().abs().view(rows // 2, 2, columns // 4, 4).sum((1, 3)).flatten()
        tiles = mask.view(rows // 2, 2, columns // 4, 4).all(3).all(1).flatten()
        expected = sums.sort().values[: int(tiles.sum())].sum()
        assert float(sums[tiles].sum()) == pytest.approx(float(expected), rel=1e-5)


def test_the_lowest_channels_stay():
    model = nn.Sequential(nn.Linear(3, 6, bias=False), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([5.0, 1, 4, 2, 6, 3])[:, None].expand(6, 3))
        model[2].weight.fill_(1)
    program = sp.run(sp.capture(model, (torch.randn(2, 3),)), ["channel-prune:sparsity=0.34"]).program
    assert program.masks["0.weight"][:, 0].tolist() == [True, False, True, False, True, True]
    control = again(program, "magnitude", lowest=True)
    assert control.masks["0.weight"][:, 0].tolist() == [False, True, True, True, False, True]
    assert torch.equal(control.masks["2.weight"][0], control.masks["0.weight"][:, 0])


@pytest.mark.parametrize("kind", ["weights", "channels"])
def test_the_seed_decides(kind):
    program = pruned("conv", "unstructured") if kind == "weights" else narrowed("conv")
    assert same_masks(again(program, seed=1), again(program, seed=1))
    assert not same_masks(again(program, seed=1), again(program, seed=2))


def test_each_mask_keeps_its_own_pattern():
    passes = ["weight-prune:pattern=2:4,only=*q_proj*", "weight-prune:pattern=block4x4,sparsity=0.5,only=*up_proj*",
              "weight-prune:sparsity=0.6,only=*down_proj*"]  # fmt: skip
    program = sp.run(program_of("llama"), passes).program
    control = again(program)
    assert counts(control) == counts(program)
    for name, mask in control.masks.items():
        if "q_proj" in name:
            assert (mask.reshape(-1, 4).sum(1) == 2).all()
        if "up_proj" in name:
            rows, columns = mask.shape
            sums = mask.view(rows // 4, 4, columns // 4, 4).sum((1, 3))
            assert ((sums == 0) | (sums == 16)).all()


def test_norms_and_embeddings_that_were_included_have_controls_too():
    program = sp.run(program_of("gpt2"), ["weight-prune:sparsity=0.5,include=*"]).program
    assert {program.parameters[name].ndim for name in program.masks} == {1, 2}
    control = again(program)
    assert counts(control) == counts(program)


def parameters(program):
    return sum(value.numel() for value in program.parameters.values())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sparsity", [0.3, 0.6, 0.8])
def test_a_small_dense_network_has_as_many_parameters_to_a_channel(name, sparsity):
    program = sp.run(program_of(name), [f"weight-prune:sparsity={sparsity},allocation=lamp"]).program
    left = parameters(program) - sum(int((~mask).sum()) for mask in program.masks.values())
    small = small_dense(program, 0)
    assert small.masks == {}
    channel = 0.02 if name == "conv" else 0.01  # of all parameters; the small network has 5 groups of 4 to 6 channels
    assert abs(parameters(small) - left) <= channel * parameters(program)


def test_a_small_dense_network_cannot_be_smaller_than_its_channels_allow():
    model = nn.Sequential(nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 2))  # one channel of four is a quarter
    program = sp.run(sp.capture(model, (torch.randn(2, 64),)), ["weight-prune:sparsity=0.9"]).program
    with pytest.raises(PassError, match=r"cannot be reached: 0\.256 is the least"):  # 69 of 270 parameters
        small_dense(program, 0)


def test_a_model_without_channels_has_no_smaller_one():
    program = sp.capture(nn.Linear(4, 3), (torch.randn(2, 4),))
    with pytest.raises(PassError, match="no channels that could go: there is no smaller dense model"):
        small_dense(sp.run(program, ["weight-prune:sparsity=0.5"]).program, 0)


def test_the_seed_of_a_small_dense_network_decides_what_is_left():
    program = pruned("conv", "unstructured")
    one, same, other = (small_dense(program, seed).parameters for seed in (0, 0, 1))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in other.items()}
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_program_is_not_changed():
    program = pruned("conv", "unstructured")
    text, masks = str(program), {name: mask.clone() for name, mask in program.masks.items()}
    again(program, "magnitude", lowest=True)
    small_dense(program, 0)
    assert str(program) == text
    assert all(torch.equal(mask, masks[name]) for name, mask in program.masks.items())


@pytest.mark.parametrize("pattern", ["3:5", "1:3", "4:6"])
def test_any_n_of_m_stays_what_it_is(pattern):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 60))
    program = sp.run(sp.capture(model, (torch.randn(2, 60),)), [f"weight-prune:pattern={pattern}"]).program
    n, m = map(int, pattern.split(":"))
    control = again(program)
    assert not same_masks(control, program)
    for mask in control.masks.values():
        assert (mask.reshape(-1, m).sum(1) == n).all()


@pytest.mark.parametrize("lowest", [True, False])
@pytest.mark.parametrize("pattern", ["block8x8", "block7x16"])
def test_tiles_that_do_not_divide_a_layer_keep_its_count(pattern, lowest):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 60))
    spec = f"weight-prune:pattern={pattern},sparsity=0.5,scope=layer"
    program = sp.run(sp.capture(model, (torch.randn(2, 60),)), [spec]).program
    control = again(program, "magnitude" if lowest else "random", lowest=lowest)
    assert counts(control) == counts(program)
    assert not same_masks(control, program)
