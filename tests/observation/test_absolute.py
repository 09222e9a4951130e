import pytest
import torch
from helpers import zoo
from helpers.gates import signals_of
from helpers.residual import mlp, resnet, wired
from helpers.stats import measure
from torch import nn

from sparsify.blocks import blocks
from sparsify.capture import capture
from sparsify.layers import layers
from sparsify.masking import masked
from sparsify.observation.absolute import absolute_gradients
from sparsify.observation.signals import block_signals


def flows(program, names=None):
    """Return the sum of θ ∂R/∂θ for each layer; where all paths pass a layer it is R."""
    names = names or list(dict.fromkeys(layer.parameter for layer in layers(program)))
    found = absolute_gradients(program, names)
    return {name: float((found[name] * program.parameters[name].detach().double().abs()).sum()) for name in names}


def same(values):
    one, *others = values
    return all(other == pytest.approx(one, rel=1e-9) for other in others)


def test_convolutions_are_sums_of_absolute_weights():
    layer = nn.Conv2d(2, 3, 3, padding=1)
    model, program = wired(lambda s, x: s.a(x), (torch.randn(1, 2, 4, 4),), a=layer)
    weight = model.a.weight.detach().double().abs().requires_grad_()
    flow = nn.functional.conv2d(torch.ones(1, 2, 4, 4).double(), weight, padding=1).sum()
    (expected,) = torch.autograd.grad(flow, weight)
    found = absolute_gradients(program, ["a.weight", "a.bias"])
    torch.testing.assert_close(found["a.weight"], expected)
    assert torch.equal(found["a.bias"], torch.zeros(3).double())


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.Hardswish])
def test_flow_is_conserved_from_layer_to_layer_whatever_the_activation(act):
    parts = {"a": nn.Linear(3, 7), "b": nn.Linear(7, 5), "c": nn.Linear(5, 2)}
    _, program = wired(lambda s, x: s.c(s.act(s.b(s.act(s.a(x))))), (torch.randn(2, 3),), act=act(), **parts)
    assert same(flows(program).values())


def test_flow_is_conserved_through_batch_norm_and_pooling():
    parts = {"a": nn.Conv2d(1, 4, 3, padding=1), "n": nn.BatchNorm2d(4), "b": nn.Conv2d(4, 3, 3), "c": nn.Linear(3, 2)}
    _, program = wired(
        lambda s, x: s.c(torch.relu(s.b(nn.functional.max_pool2d(torch.relu(s.n(s.a(x))), 2))).mean((2, 3))),
        (torch.randn(2, 1, 10, 10),),
        **parts,
    )
    assert same(flows(program, ["a.weight", "n.weight", "b.weight", "c.weight"]).values())


def test_batch_norms_use_running_variances_and_no_means():
    model, program = wired(lambda s, x: s.n(s.a(x)), (torch.randn(2, 3),), a=nn.Linear(3, 2), n=nn.BatchNorm1d(2))
    found = absolute_gradients(program, ["a.weight"])["a.weight"]
    scale = model.n.weight.detach().double().abs() / (model.n.running_var.double() + model.n.eps).sqrt()
    torch.testing.assert_close(found, 2 * scale[:, None].expand(2, 3))


class WrittenRms(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0]))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class WrittenLayer(WrittenRms):
    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-6) * self.weight + 0.1


class Variance(WrittenRms):
    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-6).sqrt() * self.weight


@pytest.mark.parametrize("written", [WrittenRms, WrittenLayer, Variance])
@pytest.mark.parametrize("built_in", [nn.RMSNorm, nn.LayerNorm])
def test_a_norm_that_is_written_out_is_that_norm(written, built_in):
    results = []
    for norm in (written(), built_in(4)):
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
        torch.manual_seed(0)
        parts = {"a": nn.Linear(3, 4), "n": norm, "b": nn.Linear(4, 2)}
        _, program = wired(lambda s, x: s.b(s.n(s.a(x))), (torch.randn(2, 3),), **parts)
        results.append(absolute_gradients(program, ["a.weight", "b.weight", "n.weight"]))
    torch.testing.assert_close(*results)
    assert all(bool((value > 0).all()) for value in results[0].values())


class Attention(nn.Module):
    def __init__(self, written):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))
        self.written = written

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (2, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.written:
            scores = q @ k.transpose(-1, -2) / 2
            blind = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
            y = torch.softmax((scores + blind).float(), -1) @ v
        else:
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("written", [False, True])
def test_queries_keys_and_values_get_the_flow_of_the_layer_behind_them(written):
    torch.manual_seed(0)
    program = capture(Attention(written), (torch.randn(2, 5, 8),))
    found = flows(program)
    assert len(found) == 4
    assert same(found.values())


def test_gates_do_not_square_the_flow():
    """Each of many gated layers would square it, and leave float64 after ten."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.ups, self.gates = (nn.ModuleList(nn.Linear(16, 16) for _ in range(20)) for _ in range(2))

        def forward(self, x):
            for up, gate in zip(self.ups, self.gates, strict=True):
                x = up(x) * torch.sigmoid(gate(x))
            return x

    torch.manual_seed(0)
    found = absolute_gradients(capture(Gated(), (torch.randn(2, 16),)), ["ups.0.weight", "gates.0.weight"])
    assert all(bool(torch.isfinite(value).all() and (value > 0).all()) for value in found.values())


def test_a_deep_network_leaves_float32_but_not_float64():
    torch.manual_seed(0)
    small = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(60)))
    large = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(60)))
    with torch.no_grad():
        for model, scale in ((small, 0.02), (large, 40.0)):
            for layer in model:
                layer.weight.mul_(scale)
    for model in (small, large):
        found = absolute_gradients(capture(model, (torch.randn(1, 4),)), ["30.weight"])["30.weight"]
        assert bool(torch.isfinite(found).all() and (found > 0).all())
        assert not bool(torch.isfinite(found.float()).all() and (found.float() > 0).all())


def test_masked_weights_and_what_only_they_lead_to_get_nothing():
    _, program = mlp(depth=1)
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[2], mask[0, 1] = False, False
    found = absolute_gradients(masked(program, {"blocks.0.0.weight": mask}), ["blocks.0.0.weight", "blocks.0.2.weight"])
    assert torch.equal(found["blocks.0.0.weight"] == 0, ~mask)
    assert torch.equal((found["blocks.0.2.weight"] == 0).all(0), ~mask.any(1))


def test_gates_on_the_channels_of_groups_and_blocks():
    """A gate carries what the weights that read the channel carry."""
    _, program = resnet()
    signals = [*signals_of(program), *block_signals(program, blocks(program))]
    found = absolute_gradients(program, ["layer1.0.conv2.weight"], signals)
    assert {signal.key: signal.size for signal in signals} == {
        key: len(value) for key, value in found.items() if key != "layer1.0.conv2.weight"
    }
    weight = program.parameters["layer1.0.conv2.weight"].detach().double().abs()
    carried = (found["layer1.0.conv2.weight"] * weight).sum((0, 2, 3))
    torch.testing.assert_close(found["layer1.0.conv1"], carried)
    torch.testing.assert_close(found["layer1.0"], (found["layer1.0.conv2.weight"] * weight).sum((1, 2, 3)))


def test_signs_do_not_matter_and_nothing_of_the_program_changes():
    model, program = resnet()
    before = absolute_gradients(program, list(program.parameters))
    state = {name: value.clone() for name, value in {**program.parameters, **program.buffers}.items()}
    with torch.no_grad():
        for value in model.parameters():
            value.neg_()
    turned = absolute_gradients(program, list(program.parameters))
    torch.testing.assert_close(before, turned)
    assert all(torch.equal(state[name], -value.detach()) for name, value in program.parameters.items())
    assert all(torch.equal(state[name], value) for name, value in program.buffers.items())
    assert all(value.grad is None for value in program.parameters.values())


def test_indices_stay_indices():
    program = capture(nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 2)), (torch.tensor([[1, 5, 5]]),))
    found = absolute_gradients(program, ["0.weight"])["0.weight"]
    rows = found.sum(1)
    assert rows.nonzero().flatten().tolist() == [1, 5]
    assert rows[5] == pytest.approx(2 * float(rows[1]))


def test_frozen_parameters_have_gradients_too():
    model, program = mlp()
    expected = absolute_gradients(program, ["stem.weight"])
    model.requires_grad_(False)
    torch.testing.assert_close(absolute_gradients(program, ["stem.weight"]), expected)


NETWORKS = ("mamba", "t5", "convnextv2", "lstm-classifier", "gru-classifier", "rotary-attention", "standardized-conv",
            "cosine-attention", "in-place", "state-space", "squeeze-excite")  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_has_flow_through_every_layer_and_no_negative_one(name):
    model, args, kwargs = {**zoo.FAMILIES, **zoo.NETWORKS}[name]()
    program = capture(model, args, kwargs)
    found = measure(program, ["absolute-gradient"], None, signals=[]).found["absolute-gradient"]
    assert all(bool(torch.isfinite(value).all() and (value >= 0).all()) for value in found.values())
    assert all(bool((found[layer.parameter] > 0).any()) for layer in layers(program))
