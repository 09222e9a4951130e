import pytest
import torch
from helpers.given import parts
from helpers.residual import wired
from helpers.stats import measure
from helpers.zoo import FAMILIES
from torch import nn
from torch.nn import functional as F

import sparsify as sp
from sparsify.statistics.input_norm import InputNorm


def norms(program, name, task=None):
    return measure(program, ["input-norm"], task).found["input-norm"][name]


def close(found, expected):
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_a_linear_layer_has_the_norm_of_each_feature_over_examples_and_tokens():
    x = torch.randn(4, 5, 3)
    _, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (x,), a=nn.Linear(3, 6), b=nn.Linear(6, 2))
    close(norms(program, "a.weight"), x.flatten(0, 1).norm(dim=0)[None])


CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "stride and padding": {"kernel_size": 3, "stride": 2, "padding": 1},
    "uneven": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (0, 1)},
    "dilation": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "same": {"kernel_size": 2, "padding": "same"},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_has_the_norm_of_each_channel_at_each_position_of_its_kernel(options, groups):
    x = torch.randn(3, 4, 7, 8)
    model, program = wired(lambda s, x: s.a(x), (x,), a=nn.Conv2d(4, 8, groups=groups, bias=False, **options))
    weight = model.a.weight
    settings = {"stride": model.a.stride, "padding": model.a.padding, "dilation": model.a.dilation}
    expected = torch.zeros_like(weight)
    for place in torch.ones_like(weight[0]).nonzero():  # what a kernel of a single one sees is what that place sees
        one = torch.zeros(1, 1, *weight.shape[2:])
        one[(0, 0, *place[1:])] = 1.0
        for group in range(groups):
            channel = group * weight.shape[1] + int(place[0])
            seen = F.conv2d(x[:, channel : channel + 1], one, **settings)
            expected[(slice(group * 8 // groups, (group + 1) * 8 // groups), *place)] = seen.norm()
    close(norms(program, "a.weight").expand_as(weight), expected)


def test_a_transposed_convolution_has_one_norm_for_each_channel():
    x = torch.randn(2, 4, 5)
    _, program = wired(lambda s, x: s.a(x), (x,), a=nn.ConvTranspose1d(4, 6, 3, groups=2))
    expected = x.transpose(0, 1).flatten(1).norm(dim=1)[:, None, None]
    close(norms(program, "a.weight").expand(4, 3, 3), expected.expand(4, 3, 3))


def test_inputs_are_the_first_dimension_of_the_weights_of_gpt2():
    model, args, kwargs = FAMILIES["gpt2"]()
    program = sp.capture(model, args, kwargs=kwargs)
    layer, seen = model.transformer.h[1].mlp.c_proj, []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(**kwargs)
    found = norms(program, "transformer.h.1.mlp.c_proj.weight")
    assert found.shape == (80, 1)
    assert layer.weight.shape == (80, 48)
    close(found, seen[0].flatten(0, 1).norm(dim=0)[:, None])


class Experts(nn.Module):
    """Three experts; each gets two rows of the batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 5))

    def forward(self, x):
        return torch.bmm(x.view(3, -1, 4), self.weight)


def test_experts_have_norms_of_their_own():
    x = torch.randn(6, 4)
    _, program = wired(lambda s, x: s.a(x), (x,), a=Experts())
    found = norms(program, "a.weight")
    assert found.shape == (3, 4, 1)
    close(found, x.view(3, 2, 4).norm(dim=1)[..., None])


def test_routed_experts_have_the_norm_of_the_tokens_that_they_got():
    model, args, kwargs = FAMILIES["mixtral"]()
    program = sp.capture(model, args, kwargs=kwargs)
    experts, seen = model.model.layers[0].mlp.experts, []
    experts.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with torch.no_grad():
        model(**kwargs)
    tokens, chosen = seen[0][0].flatten(0, -2), seen[0][1]
    found = norms(program, "model.layers.0.mlp.experts.gate_up_proj")
    for expert in range(4):
        close(found[expert].flatten(), tokens[(chosen == expert).any(-1)].norm(dim=0))


def test_batches_add_up_and_so_do_two_uses_of_a_weight():
    x = torch.randn(6, 3)
    _, program = wired(lambda s, x: s.a(torch.tanh(s.a(x))), (x,), a=nn.Linear(3, 3))
    apart, whole = parts(x)
    close(norms(program, "a.weight", apart), norms(program, "a.weight", whole))
    used = torch.tanh(x @ program.parameters["a.weight"].T + program.parameters["a.bias"])
    close(norms(program, "a.weight", whole), torch.cat([x, used]).norm(dim=0)[None])


def test_states_of_recurrent_layers_have_no_inputs():
    _, program = wired(lambda s, x: s.a(x)[0], (torch.randn(2, 4, 3),), a=nn.LSTM(3, 5, batch_first=True))
    assert not any("weight_hh" in name for name in measure(program, ["input-norm"]).found["input-norm"])


def test_it_needs_inputs_only():
    assert InputNorm.data == "inputs"
