"""Merging: exact where channels are the same up to a positive factor, and refused where something else is mixed."""

import pytest
import torch
from helpers.models import Net
from helpers.residual import settled
from torch import nn
from torch.nn import functional as F

import sparsify as sp
from sparsify import verify
from sparsify.axes import axes
from sparsify.groups import groups_of
from sparsify.masking import masked
from sparsify.pruning.reference import member_masks
from sparsify.reconstruction.merging import Mergeable, merged, why_not

SIZE = 6
NETWORKS = {
    "conv": (lambda bias: nn.Conv2d(3, SIZE, 3, padding=1, bias=bias), nn.Conv2d(SIZE, 4, 3, padding=1)),
    "linear": (lambda bias: nn.Linear(7, SIZE, bias=bias), nn.Linear(SIZE, 4)),
    "flatten": (lambda bias: nn.Conv2d(3, SIZE, 2, bias=bias), nn.Sequential(nn.Flatten(), nn.Linear(SIZE * 16, 4))),
    "transposed": (lambda bias: nn.ConvTranspose2d(3, SIZE, 2, 2, bias=bias), nn.ConvTranspose2d(SIZE, 4, 3)),
}


def network(kind, norm, bias, factors, act=True):
    """Return a program whose channels 1 and 4 are channels 0 and 2 times two factors."""
    torch.manual_seed(0)
    make, read = NETWORKS[kind]
    layer = make(bias)
    flat = kind == "linear"
    between = [(nn.BatchNorm1d if flat else nn.BatchNorm2d)(SIZE)] if norm else []
    model = settled(nn.Sequential(layer, *between, nn.ReLU() if act else nn.Identity(), read))
    dim = 1 if kind == "transposed" else 0
    with torch.no_grad():
        rows = layer.weight.movedim(dim, 0)
        for copy, source, factor in ((1, 0, factors[0]), (4, 2, factors[1])):
            if norm:
                # another row, another mean, variance and scale of the norm, but the same function times the factor
                own = between[0]
                rows[copy] = 3 * rows[source]
                shift = 3 * layer.bias[source] if bias else torch.zeros(())
                if bias:
                    layer.bias[copy] = shift + 1
                own.running_var[copy] = 9 * own.running_var[source] + 8 * own.eps
                own.running_mean[copy] = 3 * own.running_mean[source] + (1 if bias else 0)
                own.weight[copy] = factor * own.weight[source]
                own.bias[copy] = factor * own.bias[source]
            else:
                rows[copy] = factor * rows[source]
                if bias:
                    layer.bias[copy] = factor * layer.bias[source]
    return sp.capture(model, (torch.randn(3, 7) if flat else torch.randn(3, 3, 5, 5),))


def channels(program, name="0"):
    found = axes(program)
    return found, next(group for group in groups_of(found) if group.name == name and not group.frozen)


def reason(model, *shape, name="a"):
    program = sp.capture(model.eval(), (torch.randn(2, *shape),))
    return why_not(program, channels(program, name)[1])


def same(one, other):
    (expected,), (found,) = verify.outputs(one), verify.outputs(other)
    return verify.difference(expected, found) < 1e-5  # float32


@pytest.mark.parametrize("method", ["mean", "cluster"])
@pytest.mark.parametrize("factors", [(1.0, 1.0), (2.5, 0.3)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("kind", NETWORKS)
def test_multiples_behind_relu_are_merged_exactly(kind, norm, bias, factors, method):
    program = network(kind, norm, bias, factors)
    found, group = channels(program)
    item = why_not(program, group)
    assert isinstance(item, Mergeable)
    after, kept = merged(program, item, 4, method)
    assert int(kept.sum()) == 4
    assert int(kept[[0, 1]].sum()) == int(kept[[2, 4]].sum()) == 1
    assert same(program, after)
    masks = member_masks(found, {group.axis: kept})
    assert same(program, masked(after, masks))
    assert not same(program, masked(program, masks))


@pytest.mark.parametrize("method", ["mean", "cluster"])
def test_a_norm_without_scale_and_shift(method):
    """The mean of two channels has a shift between theirs, which the layer's bias must make."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4, affine=False)
    model = nn.Sequential(nn.Linear(3, 4), norm, nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        norm.running_var.copy_(torch.tensor([4.0, 0.25, 9.0, 1.0]))
        norm.running_mean.normal_()
        scale = (norm.running_var + norm.eps).sqrt()
        model[0].weight[1] = 3 * model[0].weight[0] / scale[0] * scale[1]
        shift = (model[0].bias[0] - norm.running_mean[0]) / scale[0]
        model[0].bias[1] = 3 * shift * scale[1] + norm.running_mean[1]
    program = sp.capture(model, (torch.randn(5, 3),))
    after, kept = merged(program, why_not(program, channels(program)[1]), 3, method)
    assert kept.tolist() == [False, True, True, True]
    assert same(program, after)


@pytest.mark.parametrize("method", ["mean", "cluster"])
def test_without_an_activation_multiples_are_exact_too(method):
    program = network("conv", True, True, (2.0, 0.5), act=False)
    after, _ = merged(program, why_not(program, channels(program)[1]), 4, method)
    assert same(program, after)


def test_the_largest_member_stands_for_a_cluster():
    program = network("linear", False, True, (2.5, 0.3))
    after, kept = merged(program, why_not(program, channels(program)[1]), 4, "cluster")
    assert kept.tolist() == [False, True, True, True, False, True]
    old, new = program.parameters["2.weight"], after.parameters["2.weight"]
    torch.testing.assert_close(new[:, 1], old[:, 1] + old[:, 0] / 2.5)
    torch.testing.assert_close(new[:, 2], old[:, 2] + old[:, 4] * 0.3)
    assert torch.equal(new[:, [3, 5]], old[:, [3, 5]])
    assert not new[:, [0, 4]].any()
    assert torch.equal(after.parameters["0.weight"], program.parameters["0.weight"])


def test_the_mean_stands_for_a_cluster():
    program = network("linear", False, True, (3.0, 1.0))
    after, kept = merged(program, why_not(program, channels(program)[1]), 4, "mean")
    assert kept[1]  # three times channel 0
    old, new = program.parameters, after.parameters
    torch.testing.assert_close(new["0.weight"][1], 2 * old["0.weight"][0])
    torch.testing.assert_close(new["0.bias"][1], 2 * old["0.bias"][0])
    torch.testing.assert_close(new["2.weight"][:, 1], old["2.weight"][:, 0] / 2 + old["2.weight"][:, 1] * 1.5)
    assert torch.equal(new["0.weight"][[3, 5]], old["0.weight"][[3, 5]])


@pytest.mark.parametrize("method", ["mean", "cluster"])
def test_the_program_given_is_not_changed(method):
    program = network("conv", True, True, (1.0, 2.0))
    before = {name: value.clone() for name, value in program.parameters.items()}
    after, _ = merged(program, why_not(program, channels(program)[1]), 2, method)
    assert all(torch.equal(value, before[name]) for name, value in program.parameters.items())
    assert str(after) == str(program)
    assert all(torch.equal(value, program.buffers[name]) for name, value in after.buffers.items())


@pytest.mark.parametrize("method", ["mean", "cluster"])
def test_a_reader_of_a_concatenation_keeps_the_weights_of_the_others(method):
    def forward(s, x):
        y = s.a(x).relu()
        return s.c(torch.cat([s.b(x).relu(), y, y], 1))

    torch.manual_seed(0)
    model = Net(forward, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 5, 1), c=nn.Conv2d(13, 7, 1)).eval()
    with torch.no_grad():
        model.a.weight[3], model.a.bias[3] = 2 * model.a.weight[1], 2 * model.a.bias[1]
    program = sp.capture(model, (torch.randn(2, 3, 4, 4),))
    after, kept = merged(program, why_not(program, channels(program, "a")[1]), 3, method)
    assert kept.tolist() == [True, False, True, True]
    assert same(program, after)
    assert torch.equal(after.parameters["c.weight"][:, :5], program.parameters["c.weight"][:, :5])


def test_several_readers_are_all_changed():
    def forward(s, x):
        y = s.a(x).relu()
        return s.b(y) + s.c(y.flatten(1)).sum() + s.d(y)

    torch.manual_seed(0)
    parts = {"b": nn.Conv2d(4, 2, 1), "c": nn.Linear(64, 3), "d": nn.Conv2d(4, 2, 1)}
    model = Net(forward, a=nn.Conv2d(3, 4, 1), **parts).eval()
    with torch.no_grad():
        model.a.weight[2], model.a.bias[2] = model.a.weight[0], model.a.bias[0]
    program = sp.capture(model, (torch.randn(2, 3, 4, 4),))
    item = why_not(program, channels(program, "a")[1])
    assert [layer.parameter for layer, _ in item.readers] == ["b.weight", "c.weight", "d.weight"]
    after, kept = merged(program, item, 3, "mean")
    assert not kept.all()
    assert same(program, after)


PIXELS = (3, 4, 4)
REASONS = {
    "2 layers make its channels": (lambda s, x: s.c(s.a(x).relu() + s.b(x).relu()),
        {"a": nn.Conv2d(3, 4, 1), "b": nn.Conv2d(3, 4, 1), "c": nn.Conv2d(4, 2, 1)}),
    "norm.weight belongs to its channels, too": (lambda s, x: s.c(s.norm(s.a(x).relu())),
        {"a": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4), "c": nn.Conv2d(4, 2, 1)}),
    "they are not one by one the outputs of the layer that makes them": (
        lambda s, x: s.c(F.pixel_shuffle(s.a(x), 2)), {"a": nn.Conv2d(3, 20, 1), "c": nn.Conv2d(5, 2, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("expected", REASONS)
def test_what_cannot_be_merged_has_a_reason(expected):
    function, parts = REASONS[expected]
    program = sp.capture(Net(function, **parts).eval(), (torch.randn(2, *PIXELS),))
    found = {group.name: why_not(program, group) for group in groups_of(axes(program)) if not group.frozen}
    assert expected in found.values()


def test_halves_of_a_layer_are_not_merged():
    def forward(s, x):
        one, other = s.a(x).chunk(2, 1)
        return s.b(one.relu()) + s.c(other.relu())

    model = Net(forward, a=nn.Conv2d(3, 10, 1), b=nn.Conv2d(5, 7, 1), c=nn.Conv2d(5, 7, 1))
    assert reason(model, *PIXELS) == "they are not one by one the outputs of the layer that makes them"


def test_groups_of_a_convolution_are_not_merged():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=4), nn.ReLU(), nn.Conv2d(8, 4, 1))
    assert "not one by one" in reason(model, *PIXELS, name="0")


def test_channels_that_no_layer_makes_or_reads_are_not_merged():
    embedded = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3))
    program = sp.capture(embedded, (torch.randint(9, (2, 5)),))
    assert why_not(program, channels(program)[1]) == "0 layers make its channels"
    unread = Net(lambda s, x: s.a(x).sum(1), a=nn.Linear(3, 4))
    assert reason(unread, 3) == "no layer reads its channels"
