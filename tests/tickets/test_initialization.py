"""Initialization: every parameter is drawn anew from the right distribution, and nothing else changes."""

import math

import pytest
import torch
from helpers.command import small_program
from helpers.residual import resnet
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.errors import OptionError
from sparsify.tickets.initialization import initial

INITS = ("torch", "kaiming", "xavier", "sign", "shuffle")


class Wide(nn.Module):
    """Layers of known fans, wide enough that their statistics can be told: convolutions, groups, tied and not."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 40)
        self.conv = nn.Conv1d(40, 60, 3, padding=1)
        self.grouped = nn.Conv1d(60, 80, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose1d(80, 30, 2, 2)
        self.norm = nn.LayerNorm(30)
        self.head = nn.Linear(30, 200)
        self.gain = nn.Parameter(torch.randn(7, 200))

    def forward(self, ids):
        x = self.embed(ids).transpose(1, 2)
        x = self.up(self.grouped(self.conv(x))).transpose(1, 2)
        return self.head(self.norm(x)) + self.gain.mean(0)


FANS = {  # fan-in and fan-out: what one output sums over, and how many outputs an input has, of one group
    "conv.weight": (120, 60),
    "grouped.weight": (45, 20),
    "up.weight": (80, 60),
    "head.weight": (30, 200),
}


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    return sp.capture(Wide(), (torch.randint(0, 50, (2, 8)),))


def resnet_program():
    return resnet()[1]


@pytest.mark.parametrize("name", FANS)
def test_torch_is_uniform_within_one_over_the_root_of_the_fan_in(program, name):
    weight = initial(program, 0).parameters[name].detach()
    bound = FANS[name][0] ** -0.5
    assert 0.95 * bound < weight.abs().max() <= bound
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)  # of some thousand values


@pytest.mark.parametrize("name", FANS)
def test_kaiming_is_normal_with_the_variance_two_over_the_fan_in(program, name):
    weight = initial(program, 0, "kaiming").parameters[name].detach()
    deviation = math.sqrt(2 / FANS[name][0])
    assert float(weight.std()) == pytest.approx(deviation, rel=0.1)
    assert weight.abs().max() > 2.5 * deviation


@pytest.mark.parametrize("name", FANS)
def test_xavier_is_uniform_and_takes_both_fans(program, name):
    weight = initial(program, 0, "xavier").parameters[name].detach()
    bound = math.sqrt(6 / sum(FANS[name]))
    assert 0.95 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize("name", FANS)
def test_sign_is_of_one_size_with_a_coin_for_each(program, name):
    weight = initial(program, 0, "sign").parameters[name].detach()
    assert torch.allclose(weight.abs(), torch.tensor(math.sqrt(2 / FANS[name][0])))
    assert abs(float(weight.sign().mean())) < 0.1  # of some thousand coins


def test_what_torch_itself_draws_is_alike(program):
    """`nn.Linear` and `nn.Conv1d` draw their weights uniformly within 1/√fan-in, too."""
    drawn = initial(program, 0).parameters
    for name in ("conv.weight", "grouped.weight", "head.weight"):
        assert float(drawn[name].std()) == pytest.approx(float(program.parameters[name].std()), rel=0.1)


@pytest.mark.parametrize("init", INITS)
def test_scales_are_one_and_other_vectors_zero(program, init):
    drawn = initial(program, 0, init).parameters
    assert bool((drawn["norm.weight"] == 1).all())
    for name in ("norm.bias", "conv.bias", "grouped.bias", "up.bias", "head.bias"):
        assert not drawn[name].any()


@pytest.mark.parametrize("name", ["embed.weight", "gain"])
def test_what_no_layer_multiplies_by_is_normal(program, name):
    assert float(initial(program, 0).parameters[name].std()) == pytest.approx(0.02, rel=0.1)


def test_shuffle_keeps_the_values_and_no_order(program):
    drawn = initial(program, 0, "shuffle").parameters
    for name, old in program.parameters.items():
        if old.ndim > 1:
            assert torch.equal(drawn[name].flatten().sort().values, old.flatten().sort().values)
            assert not torch.equal(drawn[name], old)


@pytest.mark.parametrize("init", INITS)
def test_the_seed_and_the_name_decide(program, init):
    one, same, other = (initial(program, seed, init).parameters for seed in (3, 3, 4))
    for name, value in one.items():
        assert torch.equal(value, same[name])
        assert value.ndim < 2 or not torch.equal(value, other[name])
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    twins = initial(sp.capture(model, (torch.randn(2, 5),)), 0).parameters
    assert not torch.equal(twins["0.weight"], twins["1.weight"])


def test_running_statistics_start_again():
    program = resnet_program()
    drawn = initial(program, 0)
    for name, value in drawn.buffers.items():
        if name.endswith("running_mean"):
            assert not value.any()
        elif name.endswith("running_var"):
            assert bool((value == 1).all())
        else:
            assert torch.equal(value, program.buffers[name])
    assert sum(name.endswith("running_var") for name in drawn.buffers) == 9
    assert all(bool((drawn.parameters[f"layer1.0.bn{i}.weight"] == 1).all()) for i in (1, 2))


def test_masks_stay():
    program = sp.run(resnet_program(), ["weight-prune:sparsity=0.5"]).program
    drawn = initial(program, 0)
    assert drawn.masks.keys() == program.masks.keys()
    assert all(torch.equal(mask, program.masks[name]) for name, mask in drawn.masks.items())
    assert str(drawn) == str(program)


def test_the_program_is_not_changed():
    program = resnet_program()
    before = {name: value.detach().clone() for name, value in {**program.parameters, **program.buffers}.items()}
    initial(program, 0)
    assert all(torch.equal(value, before[name]) for name, value in {**program.parameters, **program.buffers}.items())


def test_kind_and_what_may_be_trained_stay():
    model = nn.Sequential(nn.Linear(3, 4, dtype=torch.bfloat16), nn.Linear(4, 2, dtype=torch.bfloat16))
    model[0].weight.requires_grad = False
    program = sp.capture(model, (torch.randn(2, 3, dtype=torch.bfloat16),))
    drawn = initial(program, 0, "kaiming").parameters
    assert {value.dtype for value in drawn.values()} == {torch.bfloat16}
    assert [drawn[name].requires_grad for name in ("0.weight", "1.weight")] == [False, True]


@pytest.mark.parametrize("init", ["torch", "shuffle"])
@pytest.mark.parametrize("name", ["resnet", "gpt2", "llama"])
def test_a_network_drawn_anew_runs(name, init):
    model, args, kwargs = FAMILIES[name]()
    drawn = initial(sp.capture(model, args, kwargs), 0, init)
    output = drawn.module()(*args, **kwargs)
    assert all(bool(torch.isfinite(value).all()) for value in output.values() if isinstance(value, torch.Tensor))


def test_every_scale_of_a_written_out_norm_is_one():
    model, args, kwargs = FAMILIES["llama"]()
    drawn = initial(sp.capture(model, args, kwargs), 0).parameters
    scales = [name for name in drawn if "norm" in name]
    assert len(scales) == 5
    assert all(bool((drawn[name] == 1).all()) for name in scales)


def test_recurrent_weights_are_drawn_like_those_of_layers():
    torch.manual_seed(0)
    program = sp.capture(nn.LSTM(20, 30, batch_first=True), (torch.randn(2, 4, 20),))
    drawn = initial(program, 0).parameters
    for name, fan in (("weight_ih_l0", 20), ("weight_hh_l0", 30)):
        assert 0.95 * fan**-0.5 < drawn[name].abs().max() <= fan**-0.5


def test_slopes_start_as_torch_starts_them():
    model = nn.Sequential(nn.Linear(4, 6), nn.PReLU(6), nn.Linear(6, 2))
    with torch.no_grad():
        model[1].weight.fill_(0.9)
    drawn = initial(sp.capture(model, (torch.randn(2, 4),)), 0).parameters
    assert torch.equal(drawn["1.weight"], torch.full((6,), 0.25))
    assert not drawn["0.bias"].any()


def test_weights_that_others_make_are_not_drawn():
    program = sp.run(small_program(), ["embed:kind=interspace"]).program
    with pytest.raises(OptionError, match="embed what has been drawn"):
        initial(program, 0)
