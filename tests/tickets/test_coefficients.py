"""Coefficients: one changes nothing, folding them in gives the same function, and only clean groups have them."""

import pytest
import torch
from helpers.attending import attending
from helpers.sparse import Clusters, program_of
from torch import nn
from torch.testing import assert_close

import sparsify as sp
from sparsify.tickets.coefficients import Coefficients, readers
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions


def chosen(program, *names):
    known = {group.name: group for group in sp.groups(program)}
    return [known[name] for name in names]


def test_ones_change_nothing_and_get_gradients():
    program = attending()
    found = Coefficients.on(program, chosen(program, "q/heads", "up"))
    assert {name: found.program.parameters[key].shape for name, key in found.names.items()} == {
        "q/heads": (4,), "up": (24,)
    }  # fmt: skip
    x = torch.randn(7, 12)
    module = found.program.module(training=True)
    assert torch.equal(module(x), program.module(training=True)(x))
    module(x).square().sum().backward()
    assert all(bool(module.get_parameter(key).grad.any()) for key in found.names.values())


def test_a_coefficient_of_zero_is_a_head_that_is_gone():
    program = attending()
    (group,) = chosen(program, "q/heads")
    found = Coefficients.on(program, [group])
    module = found.program.module()
    module.get_parameter(found.names["q/heads"]).data[2] = 0
    plain = program.module()
    plain.get_parameter("o.weight").data[:, 8:12] = 0  # head 2 has the columns 8 to 11
    x = torch.randn(7, 12)
    assert torch.equal(module(x), plain(x))


def test_folded_in_they_leave_the_program_that_came_in_with_other_weights():
    program = attending()
    found = Coefficients.on(program, chosen(program, "q/heads", "up"))
    trained = train(found.program, Clusters(), TrainOptions(steps="30it", learning_rate=0.1)).program
    plain = found.folded(trained)
    assert str(plain) == str(program)
    assert plain.parameters.keys() == program.parameters.keys()
    assert plain.buffers.keys() == program.buffers.keys()
    x = torch.randn(7, 12)
    assert_close(plain.module()(x), trained.module()(x), rtol=1e-5, atol=1e-6)  # the product is rounded elsewhere
    magnitudes = found.magnitudes(trained)
    assert not torch.equal(magnitudes["up"], torch.ones(24, dtype=torch.float64))
    assert magnitudes["up"].dtype == torch.float64


def test_a_weight_that_two_groups_read_from_has_both():
    """Heads times repeats: the columns of the last layer are key groups times heads in each."""

    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.o = nn.Linear(12, 24), nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(24, 4)

        def forward(self, x):
            x = x.unsqueeze(1)
            q = self.q(x).view(-1, 1, 6, 4).transpose(1, 2)
            k, v = (
                layer(x).view(-1, 1, 3, 1, 4).expand(-1, -1, -1, 2, -1).reshape(-1, 1, 6, 4).transpose(1, 2)
                for layer in (self.k, self.v)
            )
            y = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.o(y.transpose(1, 2).reshape(-1, 24))

    torch.manual_seed(0)
    program = sp.capture(Grouped(), (torch.randn(4, 12),))
    groups = [group for group in sp.groups(program) if group.kind in ("heads", "kv-groups")]
    assert sorted((group.kind, group.size) for group in groups) == [("heads", 2), ("kv-groups", 3)]
    found = Coefficients.on(program, groups)
    module = found.program.module()
    values = {"heads": torch.tensor([1.0, 2.0]), "kv-groups": torch.tensor([1.0, 3.0, 5.0])}
    for group in groups:
        module.get_parameter(found.names[group.name]).data.copy_(values[group.kind])
    both = (values["kv-groups"][:, None] * values["heads"]).flatten().repeat_interleave(4)
    plain = program.module()
    plain.get_parameter("o.weight").data *= both
    x = torch.randn(5, 12)
    assert_close(module(x), plain(x), rtol=1e-5, atol=1e-6)
    assert_close(found.folded(found.program.with_state(module)).module()(x), plain(x), rtol=1e-5, atol=1e-6)


def test_what_is_joined_with_something_else_has_none():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other, self.last = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(16, 4)

        def forward(self, x):
            return self.last(torch.cat([torch.relu(self.one(x)), torch.relu(self.other(x))], 1))

    program = sp.capture(Joined(), (torch.randn(4, 12),))
    groups = [group for group in sp.groups(program) if not group.frozen]
    assert [group.name for group in groups] == ["one", "other"]
    assert readers(program, groups) == {"one": [], "other": []}


@pytest.mark.parametrize("name", ["coefficients_0", "coefficients_0_index_0"])
def test_names_that_are_taken_are_left_alone(name):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(12, 8), nn.Linear(8, 4)
            self.register_buffer(name, torch.full((4,), 0.5))

        def forward(self, x):
            return self.two(torch.relu(self.one(x))) + getattr(self, name)

    program = sp.capture(Named(), (torch.randn(4, 12),))
    found = Coefficients.on(program, chosen(program, "one"))
    x = torch.randn(3, 12)
    assert torch.equal(found.program.module()(x), program.module()(x))


def test_a_weight_without_a_group_of_its_own_is_not_touched():
    program = program_of()
    found = Coefficients.on(program, chosen(program, "0"))
    text = str(found.program)
    assert "mul.Tensor(2.weight" in text
    assert "mul.Tensor(4.weight" not in text
