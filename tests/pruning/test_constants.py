"""What masked channels leave behind, and where it may be moved into a bias."""

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.masking import masked
from sparsify.verify import difference, outputs


class Branches(nn.Module):
    """A constant channel runs through a norm, an activation, a pool and a flatten."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 9, 5)
        nn.init.uniform_(self.norm.running_mean), nn.init.uniform_(self.norm.weight), nn.init.uniform_(self.norm.bias)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.sigmoid(self.norm(self.conv(x))), 2)
        return self.head(x.flatten(1))


def shrunk(model, shape, names):
    """Mask index 1 of the named parameters."""
    program = sp.capture(model.eval(), (torch.randn(2, *shape),))
    masks = {name: torch.ones_like(program.parameters[name], dtype=torch.bool) for name in names}
    for mask in masks.values():
        mask[1] = False
    before = masked(program, masks)
    return before, sp.run(before, ["shrink"])


def test_through_norm_activation_pool_and_flatten():
    before, result = shrunk(Branches(), (3, 8, 8), ["conv.weight"])
    assert result.report["passes"][0]["removed"] == {"conv": "4 -> 3"}
    assert not torch.equal(result.program.parameters["head.bias"], before.parameters["head.bias"])


def test_a_masked_scale_leaves_its_shift():
    _, result = shrunk(Branches(), (3, 8, 8), ["norm.weight"])
    assert result.report["passes"][0]["removed"] == {"conv": "4 -> 3"}


class Positions(nn.Module):
    """The constant differs from position to position: one bias cannot hold it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.up, self.place, self.down = nn.Linear(3, 4), nn.Parameter(torch.randn(6, 4)), nn.Linear(4, 5)

    def forward(self, x):
        return self.down(torch.relu(self.up(x) + self.place))


def test_a_constant_that_varies_by_position_stays():
    _, result = shrunk(Positions(), (6, 3), ["up.weight"])
    assert result.report["passes"][0]["removed"] == {}


class Gated(nn.Module):
    """The other factor depends on the input."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.up, self.gate, self.down = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 5)

    def forward(self, x):
        return self.down(self.up(x) * torch.sigmoid(self.gate(x)))


def test_a_constant_times_an_input_stays():
    _, result = shrunk(Gated(), (3,), ["up.weight"])
    assert result.report["passes"][0]["removed"] == {}
    _, result = shrunk(Gated(), (3,), ["up.weight", "up.bias"])
    assert result.report["passes"][0]["removed"] == {"up": "4 -> 3"}


class Shared(nn.Module):
    """One layer reads two values: its bias belongs to both."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.one, self.two, self.down = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 5)

    def forward(self, x):
        return self.down(self.one(x)) + 2 * self.down(self.two(x))


@pytest.mark.parametrize("names", [["one.weight"], ["one.weight", "two.weight"]])
def test_a_bias_that_is_used_twice_is_left_alone(names):
    before, result = shrunk(Shared(), (3,), names)
    assert result.report["passes"][0]["removed"] == {}
    assert difference(outputs(before)[0], outputs(result.program)[0]) == 0
