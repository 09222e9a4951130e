"""Amounts: how many weights, or tiles, each layer loses, for every way of allocation."""

import functools

import pytest
import torch
from helpers.regression import Regression
from torch import nn

import sparsify as sp
from sparsify.errors import PassError
from sparsify.observation.calibration import Calibration
from sparsify.patterns import parse_pattern
from sparsify.pruning.amounts import Amounts, rounded
from sparsify.pruning.candidates import candidates
from sparsify.pruning.weight_masks import Shaper

WAYS = ["uniform", "global", "lamp", "snip-ratios", "er", "erk", "smart"]


class Net(nn.Module):
    """A convolution and three linear layers of 162, 60, 40 and 12 weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3)
        self.a, self.b, self.c = nn.Linear(6, 10), nn.Linear(10, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x.view(-1, 3, 3, 3)).relu().flatten(1)
        return self.c(self.b(self.a(x).relu()).relu())


SIZES = {"conv.weight": 162, "a.weight": 60, "b.weight": 40, "c.weight": 12}


@functools.cache
def program_of():
    return sp.capture(Net(), (torch.randn(4, 27),))


def amounts(way="uniform", pattern="unstructured", program=None, **options):
    program = program or program_of()
    found = candidates(program)
    shapes = {name: program.parameters[name].shape for name in found.layouts}
    shaper = Shaper(parse_pattern(pattern), shapes, found.layouts)
    return Amounts(program, shaper, found, Calibration(Regression((27,), 3)), way, **options)


@pytest.mark.parametrize(("value", "whole"), [(0.4, 0), (0.5, 1), (1.5, 2), (2.499999, 2), (0.45 * 10, 5),
                                              (0.29 * 50, 15), (1 - 1e-12, 1)])  # fmt: skip
def test_halves_are_rounded_up_also_behind_decimals(value, whole):
    assert rounded(value) == whole


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.45, 0.5, 0.77, 0.9, 0.99])
def test_the_total_is_exact(way, sparsity):
    gone = amounts(way).of(sparsity)
    assert list(gone) == list(SIZES)
    assert sum(gone.values()) == rounded(sparsity * 274)
    assert all(0 <= count <= SIZES[name] for name, count in gone.items())


def test_uniform_takes_the_same_of_each():
    assert amounts().of(0.5) == {"conv.weight": 81, "a.weight": 30, "b.weight": 20, "c.weight": 6}


def test_half_of_it_for_the_last_layer():
    gone = amounts(half=True).of(0.5)  # c · (162 + 60 + 40 + 12 / 2) = 137
    assert gone == {"conv.weight": 83, "a.weight": 31, "b.weight": 20, "c.weight": 3}


def ranked(scores, count):
    """How many of each are among the lowest."""
    joined = torch.cat([value.double().reshape(-1) for value in scores.values()])
    owners = torch.cat([torch.full((value.numel(),), i) for i, value in enumerate(scores.values())])
    lowest = owners[joined.argsort(stable=True)[:count]]
    return {name: int((lowest == i).sum()) for i, name in enumerate(scores)}


def weights():
    return {name: program_of().parameters[name].detach() for name in SIZES}


@pytest.mark.parametrize("sparsity", [0.2, 0.6])
def test_global_follows_the_ranking_of_all_magnitudes(sparsity):
    assert amounts("global").of(sparsity) == ranked({n: w.abs() for n, w in weights().items()}, rounded(sparsity * 274))


@pytest.mark.parametrize("sparsity", [0.2, 0.6])
def test_lamp_follows_its_scores(sparsity):
    def score(weight):
        squares = weight.double().square().reshape(-1)
        return torch.stack([value / squares[squares >= value].sum() for value in squares])

    assert amounts("lamp").of(sparsity) == ranked({n: score(w) for n, w in weights().items()}, rounded(sparsity * 274))


def test_snip_ratios_follow_gradient_times_weight():
    model, task = program_of().module(), Regression((27,), 3)
    sum(task.loss(model, batch) for batch in task.batches("train", seed=0)).div(4).backward()
    scores = {name: (value * value.grad).abs().detach() for name, value in model.named_parameters() if name in SIZES}
    assert amounts("snip-ratios").of(0.4) == ranked(scores, rounded(0.4 * 274))


def test_a_ranking_of_a_pruned_program_counts_what_is_gone():
    program = sp.run(program_of(), ["weight-prune:sparsity=0.9,only=a"]).program
    gone = amounts("global", program=program).of(0.3)
    assert gone["a.weight"] >= 54
    assert sum(gone.values()) == rounded(0.3 * 274)


def test_erk_by_hand():
    raw = [(6 + 3 + 3 + 3) / 162, 16 / 60, 14 / 40, 7 / 12]  # n_in + n_out + the kernel's sizes
    epsilon = 0.2 * 274 / (15 + 16 + 14 + 7)  # no layer is dense
    wanted = [size * (1 - epsilon * value) for size, value in zip(SIZES.values(), raw, strict=True)]
    gone = amounts("erk").of(0.8)
    assert list(gone.values()) == pytest.approx(wanted, abs=1)
    assert epsilon * max(raw) < 1


def test_er_leaves_out_the_kernel():
    raw = [9 / 18, 16 / 60, 14 / 40, 7 / 12]
    epsilon = 0.2 * 274 / sum(size * value for size, value in zip(SIZES.values(), raw, strict=True))
    wanted = [size * (1 - epsilon * value) for size, value in zip(SIZES.values(), raw, strict=True)]
    assert list(amounts("er").of(0.8).values()) == pytest.approx(wanted, abs=1)


def test_smart_ratios_fall_with_depth():
    densities = [1 - count / SIZES[name] for name, count in amounts("smart").of(0.8).items()]
    assert densities[0] > densities[1] > densities[2]
    assert densities[3] == pytest.approx(0.3, abs=1 / 12)


def test_smart_ratios_follow_the_order_of_the_graph_and_not_that_of_the_names():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first, self.second = nn.Linear(8, 3), nn.Linear(27, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.last(self.second(self.first(x).relu()).relu())

    program = sp.capture(Turned(), (torch.randn(4, 27),))
    gone = amounts("smart", program=program).of(0.8)
    assert list(gone) == ["last.weight", "first.weight", "second.weight"]
    kept = {"first.weight": 216 - gone["first.weight"], "second.weight": 64 - gone["second.weight"]}
    assert 24 - gone["last.weight"] == pytest.approx(0.3 * 24, abs=1)
    assert kept["first.weight"] / 216 == pytest.approx(2 * kept["second.weight"] / 64, rel=0.1)  # (9 + 3) / (4 + 2)


@pytest.mark.parametrize("ratios", ["snip", "synflow", "force"])
def test_ratios_are_what_a_criterion_takes_in_its_own_rounds(ratios):
    spec = f"weight-prune:sparsity=0.7,criterion={ratios},allow_collapse=yes"
    masks = sp.run(program_of(), [spec], Regression((27,), 3)).program.masks
    gone = amounts(ratios=ratios).of(0.7)
    assert gone == {name: int((~masks[name]).sum()) for name in SIZES}


def test_tiles_are_counted_by_their_weights():
    for allocation in ("uniform", "erk"):
        assert amounts(allocation, "block2x2").of(0.5) == amounts(allocation).of(0.5)
    ranked_tiles = amounts("global", "block2x2").of(0.5)
    assert abs(sum(ranked_tiles.values()) - sum(amounts("global").of(0.5).values())) <= 2  # half a tile


def test_a_table_says_it_for_each_layer(tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text("a: 0.5\n'b*': 0.9\n")
    assert amounts("table", table=str(path)).of(None) == {
        "conv.weight": 0, "a.weight": 30, "b.weight": 36, "c.weight": 0}  # fmt: skip
    with pytest.raises(PassError, match="leave out sparsity="):
        amounts("table", table=str(path)).of(0.5)


def test_a_scan_reaches_a_sparsity(tmp_path):
    path = tmp_path / "scan.yaml"
    path.write_text(
        "sparsities: [0.5, 0.9]\nlayers:\n  conv.weight: [0.1, 0.9]\n  a.weight: [0, 0]\n  b.weight: [1, 2]\n"
        "  c.weight: [9, 9]\n"
    )
    gone = amounts("table", table=str(path)).of(0.25)
    assert gone == {"conv.weight": 15, "a.weight": 54, "b.weight": 0, "c.weight": 0}
    with pytest.raises(PassError, match="say with sparsity="):
        amounts("table", table=str(path)).of(None)
