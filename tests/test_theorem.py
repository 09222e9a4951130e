"""The theorem: shrink(mask(P)) computes what mask(P) computes, for random networks and for some that are written down.

The slow run looks at thousands of networks: `pytest tests/test_theorem.py -m slow`. It takes as many minutes as
THEOREM_MINUTES says, 20 by default (2 in `make test-all`), and starts with the seed THEOREM_SEED.
"""

import itertools
import os
import time

import hypothesis
import pytest
import torch
import torch.nn.functional as F
from helpers.models import Net
from helpers.random_graphs import specs
from helpers.theorem import assert_theorem
from helpers.zoo import randomize
from hypothesis import HealthCheck, Phase
from torch import nn

import sparsify as sp
from sparsify.masking import masked

NETWORKS = 20
MINUTES = float(os.environ.get("THEOREM_MINUTES", "20"))
SEED = int(os.environ.get("THEOREM_SEED", "0"))

settings = hypothesis.settings(
    deadline=None,  # a network takes as long as it takes to capture it
    database=None,
    max_examples=NETWORKS,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # explaining a failure would take an hour
)


@hypothesis.settings(settings, derandomize=True)
@hypothesis.given(specs())
def test_random_networks_shrink_exactly(spec):
    assert_theorem(spec)


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 1800)  # what was found is made small after the time is up
def test_thousands_of_random_networks_shrink_exactly():
    end = time.monotonic() + 60 * MINUTES
    for number in itertools.count(SEED):
        if time.monotonic() > end:
            break
        run = hypothesis.given(specs(12))(lambda spec: assert_theorem(spec, rounds=2))
        hypothesis.seed(number)(settings(run))()


def shrunk(first, between, second, masks):
    """Capture a pair with random numbers everywhere, mask it and shrink it; return it before and after."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = Net(lambda s, x: s.second(s.between(s.first(x))), first=first, between=between, second=second)
        net = randomize(net, 1).double().eval()
        x = torch.randn(2, 5, dtype=torch.float64) if isinstance(first, nn.Linear) else torch.randn(2, 3, 6, 6).double()
        program = sp.capture(net, (x,))
    before = masked(program, masks(program))
    return before, sp.run(before, ["shrink"]).program


def filters_alone(program):
    """Mask filters, not their biases: what an activation makes of the bias is left behind."""
    return {"first.weight": without(program, "first.weight", 0)}


def readers_alone(program):
    return {"second.weight": without(program, "second.weight", 1)}


def without(program, name, dim, gone=(1, 4)):
    mask = torch.ones(program.parameters[name].shape, dtype=torch.bool)
    return mask.index_fill(dim, torch.tensor(gone), False)


def conv(width, out, kernel=1, **more):
    return nn.Conv2d(width, out, kernel, **more)


FOLDED = {
    "linear": (nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4)),
    "linear without a bias": (nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4, bias=False)),
    "1x1": (conv(3, 7, 3), nn.ReLU(), conv(7, 4)),
    "1x1 without a bias": (conv(3, 7, 3), nn.ReLU(), conv(7, 4, bias=False)),
    "3x3 that does not pad": (conv(3, 7, 3), nn.GELU(), conv(7, 4, 3)),
    "first pads": (conv(3, 7, 3, padding=1), nn.Sigmoid(), conv(7, 4, stride=2)),
    "through a max pool": (conv(3, 7, 3), nn.Sequential(nn.SiLU(), nn.MaxPool2d(2)), conv(7, 4)),
    "through a batch norm": (conv(3, 7, 3, bias=False), nn.Sequential(nn.BatchNorm2d(7), nn.ReLU()), conv(7, 4)),
}


@pytest.mark.parametrize("name", FOLDED)
def test_a_constant_that_a_masked_filter_leaves_behind_moves_into_the_bias_of_its_reader(name):
    before, after = shrunk(*FOLDED[name], filters_alone)
    assert after.parameters["first.weight"].shape[0] == 5
    assert after.parameters["second.weight"].shape[1] == 5
    assert not after.masks
    old = before.parameters.get("second.bias", torch.zeros(4))
    assert (after.parameters["second.bias"] - old).abs().min() > 0


@pytest.mark.parametrize("name", FOLDED)
def test_a_channel_that_nobody_reads_goes_without_a_trace(name):
    before, after = shrunk(*FOLDED[name], readers_alone)
    assert after.parameters["first.weight"].shape[0] == 5
    assert after.parameters.keys() == before.parameters.keys()
    for parameter, value in before.parameters.items():
        if "bias" in parameter and value.shape == after.parameters[parameter].shape:
            assert torch.equal(after.parameters[parameter], value)


def test_the_folded_constant_is_what_the_reader_got_from_the_channels():
    before, after = shrunk(*FOLDED["1x1"], filters_alone)
    left = torch.relu(before.parameters["first.bias"][[1, 4]])
    gained = before.parameters["second.weight"][:, [1, 4], 0, 0] @ left
    torch.testing.assert_close(after.parameters["second.bias"], before.parameters["second.bias"] + gained)


UNFOLDED = {
    "padding": (conv(3, 7, 3), nn.ReLU(), conv(7, 4, 3, padding=1)),
    "padding by name": (conv(3, 7, 3), nn.ReLU(), conv(7, 4, 3, padding="same")),
    "groups": (conv(3, 7, 3), nn.ReLU(), nn.Sequential(conv(7, 7, 3, groups=7), nn.Softmax(1))),
    "a softmax": (nn.Linear(5, 7), nn.Softmax(-1), nn.Linear(7, 4)),
    "a layer norm": (nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 4)),
    "transposed": (conv(3, 7, 3), nn.ReLU(), nn.ConvTranspose2d(7, 4, 2)),
}


@pytest.mark.parametrize("name", UNFOLDED)
def test_what_cannot_be_folded_stays(name):
    before, after = shrunk(*UNFOLDED[name], filters_alone)
    assert {n: v.shape for n, v in after.parameters.items()} == {n: v.shape for n, v in before.parameters.items()}
    assert after.masks.keys() == before.masks.keys()


def both(s, x):
    return s.a(x), s.b(x)


def gram(s, x):
    """Zero rows, but no zero columns."""
    a, b = both(s, x)
    return s.h((a.mT @ b).sum(-1)) + s.g(a + b).sum(1)


def outer(how):
    def forward(s, x):
        a, b = both(s, x)
        return s.h(how(a[:, :, None], b[:, None]).sum(-1)) + s.g(a + b)

    return forward


def beside_itself(s, x):
    x = s.a(x)
    return s.h(x + s.b(x))


def read_three_times(s, x):
    x = torch.relu(s.a(x))
    return s.h(x) + torch.tanh(s.h(2 * x)) + torch.relu(s.h(3 * x))


def pairs():
    return {"a": nn.Linear(4, 6), "b": nn.Linear(4, 6), "h": nn.Linear(6, 3), "g": nn.Linear(6, 3)}


def grouped(layer):
    return {"a": nn.Conv2d(3, 9, 1), "b": layer(9, 9, 1, groups=3, bias=False), "h": nn.Conv2d(9, 2, 1)}


def linears(**more):
    return {"a": nn.Linear(4, 6), "h": nn.Linear(6, 3), **more}


def free(*shape):
    return nn.Parameter(torch.randn(shape))


SIDE = {"a.weight": 0, "a.bias": 0, "h.weight": 1, "g.weight": 1}
THROUGHOUT = {"a.weight": 0, "a.bias": 0, "h.weight": 1}
FOUND = {
    "both dimensions of a product": (gram, (5, 4), SIDE, [1, 3], pairs()),
    "an outer product": (outer(torch.mul), (4,), SIDE, [1, 3], pairs()),
    "an outer sum": (outer(torch.add), (4,), SIDE, [1, 3], pairs()),
    "a grouped convolution beside its input": (
        beside_itself, (3, 5, 5), {"a.weight": 0, "a.bias": 0}, [1, 4, 7], grouped(nn.Conv2d)),
    "a grouped transposed convolution beside its input": (
        beside_itself, (3, 5, 5), {"a.weight": 0, "a.bias": 0}, [1, 4, 7], grouped(nn.ConvTranspose2d)),
    "a layer without bias, read three times": (
        read_three_times, (4,), {"a.weight": 0}, [1, 3], {"a": nn.Linear(4, 6), "h": nn.Linear(6, 3, bias=False)}),
    "a masked weight, transposed": (
        lambda s, x: F.linear(s.a(x).relu(), s.p.t()), (4,), {"a.weight": 0, "p": 0}, [1, 3],
        {"a": nn.Linear(4, 6), "p": free(6, 3)}),
    "a weight without a module": (
        lambda s, x: F.linear(s.a(x).relu(), s.p), (4,), {"a.weight": 0}, [1, 3],
        {"a": nn.Linear(4, 6), "p": free(3, 6)}),
    "a weight that is a row": (
        lambda s, x: F.linear(s.a(x).relu(), s.p)[:, None], (4,), {"a.weight": 0}, [1, 3],
        {"a": nn.Linear(4, 6), "p": free(6)}),
    "a weight that is made of the input": (
        lambda s, x: F.linear(s.a(x).relu(), s.g(x).mean(0).view(3, 6)), (4,), {"a.weight": 0}, [1, 3],
        {"a": nn.Linear(4, 6), "g": nn.Linear(4, 18)}),
    "a squeeze of one dimension": (
        lambda s, x: s.h(s.a(x).squeeze(1)), (4,), THROUGHOUT, [0, 1, 2, 3, 4], linears()),
    "a squeeze of all": (
        lambda s, x: s.h(s.a(x)[:, :, None].squeeze()), (4,), THROUGHOUT, [0, 1, 2, 3, 4], linears()),
    "a group norm over positions that a layer made": (
        lambda s, x: s.h(s.n(s.a(x))).sum(1), (5, 4), THROUGHOUT, [1, 3], linears(n=nn.GroupNorm(1, 5))),
    "an instance norm over positions that a layer made": (
        lambda s, x: s.h(s.n(s.a(x))).sum(1), (5, 4), THROUGHOUT, [1, 3], linears(n=nn.InstanceNorm1d(5))),
    "an instance norm with statistics": (
        lambda s, x: s.h(s.n(s.a(x))).sum(1), (5, 4), THROUGHOUT, [0, 1, 2, 3, 4],
        linears(n=nn.InstanceNorm1d(5, track_running_stats=True))),
    "a batch norm without statistics": (
        lambda s, x: s.h(s.n(s.a(x))).sum(1), (5, 4), THROUGHOUT, [1, 3],
        linears(n=nn.BatchNorm1d(5, track_running_stats=False))),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_was_wrong_once(name):
    how, x, dims, gone, parts = FOUND[name]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = randomize(Net(how, **parts), 1).double().eval()
        program = sp.capture(net, (torch.randn(2, *x, dtype=torch.float64),))
    sp.run(masked(program, {key: without(program, key, dim, gone) for key, dim in dims.items()}), ["shrink"])


def test_a_bias_that_two_layers_share_stays_what_it_is():
    def shares(s, x):
        x = torch.relu(s.first(x))
        return s.second(x) + s.second.bias * x.sum()

    net = randomize(Net(shares, first=nn.Linear(5, 7), second=nn.Linear(7, 4)), 1).double().eval()
    program = sp.capture(net, (torch.randn(2, 5, dtype=torch.float64),))
    after = sp.run(masked(program, filters_alone(program)), ["shrink"]).program
    assert torch.equal(after.parameters["second.bias"], program.parameters["second.bias"])
