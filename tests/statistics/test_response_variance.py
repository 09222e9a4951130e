import pytest
import torch
from helpers.given import parts
from helpers.residual import wired
from helpers.stats import measure
from helpers.zoo import FAMILIES
from torch import nn
from torch.nn import functional as F

import sparsify as sp
from sparsify.masking import masked
from sparsify.statistics import response_variance


def variances(program, name="a.weight", task=None):
    return measure(program, ["response-variance"], task).found["response-variance"][name]


def close(found, expected):
    torch.testing.assert_close(found.float(), expected.detach().float(), rtol=1e-4, atol=1e-6)  # float32 norms


def test_a_linear_layer_has_the_variance_of_each_weight_times_its_input():
    x = torch.randn(7, 3)
    model, program = wired(lambda s, x: s.a(x), (x,), a=nn.Linear(3, 5))
    expected = (x[:, None] * model.a.weight).abs().var(0, correction=0)
    close(variances(program), expected)


def test_the_norm_runs_over_the_tokens_of_an_example():
    x = torch.randn(7, 4, 3)
    model, program = wired(lambda s, x: s.a(x), (x,), a=nn.Linear(3, 5))
    close(variances(program), (x.norm(dim=1)[:, None] * model.a.weight.abs()).var(0, correction=0))


def of_slices(layer, x):
    """Convolve every channel with every kernel slice alone."""
    settings = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    expected = torch.zeros_like(layer.weight)
    outputs, inputs = layer.weight.shape[:2]
    for j in range(outputs):
        for i in range(inputs):
            channel = j // (outputs // layer.groups) * inputs + i
            response = F.conv2d(x[:, channel : channel + 1], layer.weight[j : j + 1, i : i + 1], **settings)
            expected[j, i] = response.flatten(1).norm(dim=1).var(correction=0)
    return expected


CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 6, 3),
    "stride, padding and dilation": nn.Conv2d(4, 6, (3, 2), (1, 2), (2, 0), dilation=2),
    "groups": nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "pointwise": nn.Conv2d(4, 6, 1),
}


@pytest.mark.parametrize("layer", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolution_has_the_variance_of_the_norm_of_each_slice(layer, monkeypatch):
    x = torch.randn(5, 4, 7, 8)
    model, program = wired(lambda s, x: s.a(x), (x,), a=layer)
    with torch.no_grad():
        expected = of_slices(model.a, x)
        close(variances(program), expected)
        monkeypatch.setattr(response_variance, "_HELD", 1)  # one example at a time
        close(variances(program), expected)


def test_batches_add_up():
    _, program = wired(lambda s, x: s.b(torch.relu(s.a(x)).flatten(1)), (torch.randn(2, 2, 4, 4),),
                       a=nn.Conv2d(2, 3, 3), b=nn.Linear(12, 2))  # fmt: skip
    apart, whole = parts(torch.randn(10, 2, 4, 4) + 2)
    for name in ("a.weight", "b.weight"):
        close(variances(program, name, apart), variances(program, name, whole))


def test_an_input_that_never_changes_has_no_variance_however_large():
    x = torch.randn(6, 3)
    x[:, 1] = 1000.0
    _, program = wired(lambda s, x: s.a(x), (x,), a=nn.Linear(3, 4))
    found = variances(program)
    assert found[:, 1].tolist() == [0.0] * 4
    assert bool((found[:, [0, 2]] > 0).all())


def test_masked_weights_do_not_respond():
    x = torch.randn(5, 2, 6, 6)
    model, program = wired(lambda s, x: s.a(x), (x,), a=nn.Conv2d(2, 3, 3))
    mask = torch.rand(3, 2, 3, 3) > 0.5
    found = variances(masked(program, {"a.weight": mask}))
    with torch.no_grad():
        model.a.weight.mul_(mask)
        close(found, of_slices(model.a, x))


def test_inputs_are_the_first_dimension_of_the_weights_of_gpt2():
    model, args, kwargs = FAMILIES["gpt2"]()
    program = sp.capture(model, args, kwargs=kwargs)
    layer, seen = model.transformer.h[0].mlp.c_fc, []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(**kwargs)
        tokens = seen[0].flatten(0, 1)  # this layer gets them in one long line
        expected = tokens.abs().var(0, correction=0)[:, None] * layer.weight.square()
    close(variances(program, "transformer.h.0.mlp.c_fc.weight"), expected)


def test_routed_experts_have_the_variance_over_the_tokens_that_they_got():
    model, args, kwargs = FAMILIES["mixtral"]()
    program = sp.capture(model, args, kwargs=kwargs)
    experts, seen = model.model.layers[0].mlp.experts, []
    experts.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with torch.no_grad():
        model(**kwargs)
    tokens, chosen = seen[0][0].flatten(0, -2), seen[0][1]
    found = variances(program, "model.layers.0.mlp.experts.gate_up_proj")
    for expert in range(4):
        of_inputs = tokens[(chosen == expert).any(-1)].abs().var(0, correction=0)
        close(found[expert], experts.gate_up_proj[expert].square() * of_inputs)


def test_experts_without_tokens_have_none():
    model, _, _ = FAMILIES["mixtral"]()
    program = sp.capture(model, kwargs={"input_ids": torch.tensor([[5, 5]])})  # both go to the same two experts
    found = variances(program, "model.layers.0.mlp.experts.gate_up_proj")
    assert int((found.flatten(1) == 0).all(1).sum()) >= 2


def test_a_transposed_convolution_takes_every_position_of_the_kernel_for_an_output():
    x = torch.randn(3, 4, 5)
    model, program = wired(lambda s, x: s.a(x), (x,), a=nn.ConvTranspose1d(4, 6, 3, groups=2))
    expected = x.norm(dim=2).var(0, correction=0)[:, None, None] * model.a.weight.square()
    close(variances(program), expected)
