"""Channels: what each adds to the outputs of its readers, and which set of them can best be missed."""

import itertools

import pytest
import torch
from helpers.models import Net
from torch import nn

import sparsify as sp
from sparsify.groups import groups
from sparsify.layers import layers
from sparsify.observation.calibration import Calibration
from sparsify.reconstruction.channels import contributions, greedy, index_of, lasso
from sparsify.reconstruction.moments import moments


def network(kind):
    """Return a maker, what lies between, a reader, and an input."""
    torch.manual_seed(0)
    image = torch.randn(3, 3, 6, 5)
    return {
        "linear": (nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), torch.randn(20, 4)),
        "conv": (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3, padding=1, stride=2), image),
        "grouped": (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1, groups=2), image),
        "flatten": (nn.Conv2d(3, 6, 3), nn.Sequential(nn.ReLU(), nn.Flatten()), nn.Linear(72, 5), image),
        "transposed": (nn.Conv2d(3, 6, 3), nn.Tanh(), nn.ConvTranspose2d(6, 4, 2, 2), image),
    }[kind]


def by_hand(make, between, read, x, index):
    """Run the reader on one channel after the other; return the mean products of what it gives for them."""
    with torch.no_grad():
        made = make(x)
        size = int(index.max()) + 1
        outs = []
        for channel in range(size):
            mask = (index == channel).view(1, -1, *[1] * (made.ndim - 2))
            out = read(between(made * mask)) - read(torch.zeros_like(between(made)))
            outs.append(out.flatten().double())
        stacked = torch.stack(outs)
    return stacked @ stacked.T


@pytest.mark.parametrize("kind", ["linear", "conv", "grouped", "flatten", "transposed"])
def test_contributions_are_products_of_what_single_channels_give(kind):
    make, between, read, x = network(kind)
    program = sp.capture(Net(lambda s, x: s.b(s.m(s.a(x))), a=make, m=between, b=read).eval(), (x,))
    layer = layers(program)[1]
    weight = program.parameters["b.weight"]
    (group,) = [g for g in groups(program) if any((m.parameter, m.dim) == ("b.weight", layer.layout.inputs[0])
                for m in g.members) and not g.frozen and g.kind == "channels"]  # fmt: skip
    index = index_of(group, "b.weight", layer.layout.inputs[0], weight.shape)
    gram = moments(program, None, ["b.weight"], Calibration(None))["b.weight"].gram
    found = contributions(weight, layer.layout, gram, index, group.size)
    maker = next(m for m in group.members if m.parameter == "a.weight")
    expected = by_hand(make, between, read, x, maker.index[0])
    rows = {"linear": 20, "conv": 3 * 2 * 2, "grouped": 3 * 4 * 3, "flatten": 3, "transposed": 3 * 4 * 3}[kind]
    torch.testing.assert_close(found, expected / rows, rtol=1e-4, atol=1e-6)


def test_inputs_that_belong_to_no_channel_do_not_count():
    weight = torch.tensor([[1.0, 2.0, 3.0]])
    program = sp.capture(nn.Linear(3, 1), (torch.randn(2, 3),))
    layout = layers(program)[0].layout
    index = torch.tensor([[1, -1, 0]])
    assert torch.equal(
        contributions(weight, layout, torch.ones(1, 3, 3), index, 2),
        torch.tensor([[9.0, 3.0], [3.0, 1.0]], dtype=torch.float64),
    )


def products(seed, size, rank=30):
    z = torch.randn(size, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z @ z.T


def lost(found, kept):
    gone = (~kept).double()
    return float(gone @ found @ gone)


@pytest.mark.parametrize("choose", [greedy, lasso])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_of_orthogonal_contributions_the_largest_stay(choose, count):
    sizes = torch.tensor([3.0, 9.0, 1.0, 7.0, 5.0, 2.0], dtype=torch.float64)
    kept = choose(sizes.diag(), count)
    assert set(kept.nonzero().flatten().tolist()) == set(sizes.topk(count).indices.tolist())


def test_channels_that_cancel_go_together():
    found = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.2]], dtype=torch.float64)
    assert greedy(found, 1).tolist() == [False, False, True]
    assert lost(found, greedy(found, 1)) == 0


def test_a_channel_costs_more_when_a_like_one_is_gone():
    """Without 0, losing 1 costs 1.1 + 2 · 0.2 = 1.5, and losing 2 costs 1.4."""
    found = torch.tensor([[1.0, 0.2, 0.0], [0.2, 1.1, 0.0], [0.0, 0.0, 1.4]], dtype=torch.float64)
    assert greedy(found, 2).tolist() == [False, True, True]
    assert greedy(found, 1).tolist() == [False, True, False]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [2, 4, 6])
def test_greedy_is_close_to_the_best_of_all_choices(seed, count):
    found = products(seed, 8)
    losses = []
    for chosen in itertools.combinations(range(8), count):
        kept = torch.zeros(8, dtype=torch.bool)
        kept[list(chosen)] = True
        losses.append(lost(found, kept))
    loss = lost(found, greedy(found, count))
    assert min(losses) <= loss * (1 + 1e-9)
    assert loss <= 1.5 * min(losses)
    assert loss < sorted(losses)[len(losses) // 5]  # better than four choices in five


@pytest.mark.parametrize("choose", [greedy, lasso])
@pytest.mark.parametrize("size", [1, 5, 12])
def test_the_count_is_exact(choose, size):
    for found in (products(1, size), products(1, size, rank=2), torch.zeros(size, size, dtype=torch.float64)):
        for count in range(1, size + 1):
            kept = choose(found, count)
            assert kept.dtype == torch.bool
            assert int(kept.sum()) == count


def test_lasso_drops_the_weaker_copy():
    """A channel that gives half of what another gives adds nothing but its penalty."""
    z = torch.randn(5, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[3] = 0.5 * z[1]
    assert lasso(z @ z.T, 4).tolist() == [True, True, True, False, True]


def test_lasso_keeps_one_of_two_equal_channels():
    z = torch.randn(4, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[2] = z[1]
    z[[0, 3]] *= 5
    kept = lasso(z @ z.T, 3)
    assert kept[[0, 3]].all()
    assert int(kept[1]) + int(kept[2]) == 1


def test_the_order_of_magnitude_does_not_matter():
    found = products(3, 7)
    for choose in (greedy, lasso):
        assert all(torch.equal(choose(found * scale, 3), choose(found, 3)) for scale in (1e-3, 1e3))


def test_a_position_of_several_channels_has_no_index():
    program = sp.capture(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (torch.randn(2, 3),))
    group = next(g for g in groups(program) if not g.frozen)
    shape = program.parameters["2.weight"].shape
    assert index_of(group, "2.weight", 1, shape).tolist() == [[0, 1, 2, 3]] * 2
    assert index_of(group, "0.weight", 0, torch.Size([4, 3]))[:, 0].tolist() == [0, 1, 2, 3]
