import torch
from helpers.given import parts, signals
from helpers.residual import mlp, wired
from helpers.stats import measure
from torch import nn

from sparsify.blocks import blocks


def shares(program, task=None, **options):
    return measure(program, ["zero-share"], task, **options).found["zero-share"]


def conv_net():
    return wired(
        lambda s, x: s.c(torch.relu(s.b(torch.relu(s.a(x)))).mean((2, 3))), (torch.randn(6, 2, 5, 5),),
        a=nn.Conv2d(2, 7, 3), b=nn.Conv2d(7, 4, 1), c=nn.Linear(4, 2),
    )  # fmt: skip


def test_it_is_the_share_of_zeros_over_examples_and_positions():
    model, program = conv_net()
    with torch.no_grad():
        first = torch.relu(model.a(program.example.args[0]))
    found = shares(program, signals=signals(program))
    assert torch.equal(found["a"], (first == 0).double().mean((0, 2, 3)))


def test_a_pooled_channel_is_zero_only_where_all_of_it_is():
    model, program = conv_net()
    with torch.no_grad():
        second = torch.relu(model.b(torch.relu(model.a(program.example.args[0]))))
    expected = (second.mean((2, 3)) == 0).double().mean(0)
    assert torch.equal(shares(program, signals=signals(program))["b"], expected)


def test_batches_add_up():
    _, program = conv_net()
    apart, whole = parts(torch.randn(8, 2, 5, 5))
    one, other = (shares(program, task, signals=signals(program)) for task in (apart, whole))
    assert all(torch.equal(one[key], other[key]) for key in other)


def attend(s, x):
    query = key = value = s.a(x).unflatten(-1, (3, 4)).transpose(1, 2)
    mixed = nn.functional.scaled_dot_product_attention(query, key, value)
    return torch.relu(mixed.transpose(1, 2).flatten(2) - 0.2)


def test_heads_have_the_share_of_all_their_columns():
    model, program = wired(
        lambda s, x: s.b(attend(s, x)), (torch.randn(2, 6, 5),), a=nn.Linear(5, 12), b=nn.Linear(12, 2)
    )
    with torch.no_grad():
        seen = attend(model, program.example.args[0])
    (heads,) = [signal for signal in signals(program) if signal.size == 3]
    found = shares(program, signals=[heads])[heads.key]
    assert torch.equal(found, (seen.unflatten(2, (3, 4)) == 0).double().mean((0, 1, 3)))


def test_blocks_have_the_share_of_what_they_add():
    model, program = mlp()
    with torch.no_grad():
        model.blocks[1][2].weight[2] = 0.0
        model.blocks[1][2].bias[2] = 0.0
    found = shares(program, blocks=blocks(program))
    assert found["blocks.1"][2] == 1.0
    assert found["blocks.0"].max() == 0.0
