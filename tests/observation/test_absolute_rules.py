"""Single operators in their positive form, through the gradient of a scale in front of them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparsify.capture import capture
from sparsify.observation.absolute import absolute_gradients


class Scaled(nn.Module):
    """An operation on θ · x, with one θ for each of six features."""

    def __init__(self, op):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0, 0.25]))
        self.other = nn.Parameter(torch.tensor([0.5, 1.0, -1.0, 2.0, 0.1, 1.0]))
        self.register_buffer("table", torch.tensor([-1.0, 2.0, float("-inf"), 1.0, 0.5, -3.0]))
        self.register_buffer("mask", torch.tensor([True, False, True, False, True, True]))
        self.op = op

    def forward(self, x):
        return self.op(self, x * self.theta)


def slopes(op):
    """Return ∂R/∂|θ| for one example."""
    program = capture(Scaled(op), (torch.randn(1, 6),))
    found = absolute_gradients(program, list(program.parameters))
    return found["theta"], found.get("other")


ONES = torch.ones(6).double()
THETA = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0, 0.25]).double()
IDENTITIES = {
    "relu": lambda s, x: F.relu(x), "gelu": lambda s, x: F.gelu(x), "exp": lambda s, x: x.exp(),
    "hardswish": lambda s, x: F.hardswish(x), "softplus": lambda s, x: F.softplus(x), "negative": lambda s, x: -x,
    "shifted": lambda s, x: 3 - x, "biased": lambda s, x: x + s.other, "table": lambda s, x: x + s.table,
    "dropout": lambda s, x: F.dropout(x, 0.5, s.training), "detached": lambda s, x: x.detach(),
    "clamped": lambda s, x: x.clamp(-0.1, 0.1), "centred": lambda s, x: x - x.mean(-1, keepdim=True),
    "half": lambda s, x: x.half().float(), "log-sigmoid": lambda s, x: F.logsigmoid(x),
}  # fmt: skip


@pytest.mark.parametrize("name", IDENTITIES)
def test_activations_shifts_and_casts_are_identities(name):
    torch.testing.assert_close(slopes(IDENTITIES[name])[0], ONES)


CONSTANTS = {
    "product": (lambda s, x: x * s.table, [1, 2, 0, 1, 0.5, 3]),
    "scalar": (lambda s, x: -2 * x, [2] * 6),
    "quotient": (lambda s, x: x / -4, [0.25] * 6),
    "chosen": (lambda s, x: torch.where(s.mask, x, 7.0), [1, 0, 1, 0, 1, 1]),
    "filled": (lambda s, x: x.masked_fill(s.mask, -1e9), [0, 1, 0, 1, 0, 0]),
    "difference": (lambda s, x: x - 3 * x.flip(1), [4] * 6),
    "sum-of-both": (lambda s, x: torch.add(x, x.flip(1), alpha=-2), [3] * 6),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_count_by_their_absolute_values(name):
    op, expected = CONSTANTS[name]
    torch.testing.assert_close(slopes(op)[0], torch.tensor(expected).double())


def test_a_power_is_a_straight_line_with_the_right_value():
    torch.testing.assert_close(slopes(lambda s, x: x.pow(2))[0], THETA)
    torch.testing.assert_close(slopes(lambda s, x: x.square())[0], THETA)
    torch.testing.assert_close(slopes(lambda s, x: x.abs().sqrt())[0], THETA.rsqrt())


def test_divisors_are_held_constant():
    torch.testing.assert_close(slopes(lambda s, x: x / x.norm(dim=-1, keepdim=True))[0], ONES / THETA.norm())
    torch.testing.assert_close(slopes(lambda s, x: x * x.pow(-1.0).mean())[0], ONES * (1 / THETA).mean())
    torch.testing.assert_close(slopes(lambda s, x: x.softmax(-1))[0], ONES / THETA.sum())
    torch.testing.assert_close(slopes(lambda s, x: x / x.std(-1, keepdim=True))[0], ONES / THETA.square().mean().sqrt())


def test_a_product_of_two_values_is_as_large_as_the_larger_and_both_carry_all_of_it():
    theta, other = slopes(lambda s, x: x * torch.sigmoid((x.flip(1) + 0.0) * s.other))
    assert bool((theta > 0).all() and (other > 0).all())
    gate = THETA.flip(0) * torch.tensor([0.5, 1.0, 1.0, 2.0, 0.1, 1.0]).double()
    larger = max(float(THETA.mean()), float(gate.mean()))
    total = float((other * torch.tensor([0.5, 1.0, 1.0, 2.0, 0.1, 1.0]).double()).sum())
    assert total == pytest.approx(6 * larger)


def test_a_gated_half_is_such_a_product():
    theta, _ = slopes(lambda s, x: F.glu(x, -1))
    carried = theta * THETA
    assert float(carried[:3].sum()) == pytest.approx(float(carried[3:].sum()))


NORMS = {
    "layer": lambda s, x: F.layer_norm(x, (6,)),
    "rms": lambda s, x: F.rms_norm(x, (6,)),
    "group": lambda s, x: F.group_norm(x, 1),
    "instance": lambda s, x: F.instance_norm(x[:, None])[:, 0],
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_divide_by_the_size(name):
    torch.testing.assert_close(slopes(NORMS[name])[0], ONES / THETA.square().mean().sqrt())


def test_a_batch_norm_without_running_statistics_divides_by_the_size_of_each_channel():
    found, _ = slopes(lambda s, x: F.batch_norm(torch.cat([x, x]), None, None, training=True))
    torch.testing.assert_close(found, 2 / THETA)


def test_what_was_pruned_makes_no_division_by_zero():
    def op(s, x):
        x = torch.where(s.mask & ~s.mask, x, 0.0)
        return F.layer_norm(x, (6,)) + x.softmax(-1) + x / x.norm() + x.sqrt() + x * x.flip(1)

    found, _ = slopes(op)
    assert torch.equal(found, 0 * ONES)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "batch_first": True}])
def test_recurrent_layers_give_flow_to_both_of_their_matrices(kind, options):
    torch.manual_seed(0)
    layer = kind(3, 4, **options)
    program = capture(layer, (torch.randn(2, 5, 3),))
    found = absolute_gradients(program, list(program.parameters))
    assert all(bool((value > 0).all()) for name, value in found.items() if "weight" in name)


def test_a_projected_lstm():
    torch.manual_seed(0)
    program = capture(nn.LSTM(3, 4, proj_size=2), (torch.randn(2, 5, 3),))
    found = absolute_gradients(program, list(program.parameters))
    assert all(bool((value > 0).all()) for name, value in found.items() if "weight" in name)
