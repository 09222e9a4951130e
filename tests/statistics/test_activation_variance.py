import torch
from helpers.given import parts, signals
from helpers.residual import mlp, wired
from helpers.stats import measure
from torch import nn

from sparsify.blocks import blocks


def variances(program, task=None, **options):
    return measure(program, ["activation-variance"], task, **options).found["activation-variance"]


def net(x):
    return wired(
        lambda s, x: s.b(torch.tanh(s.norm(s.a(x))).flatten(1)), (x,),
        a=nn.Conv2d(2, 5, 3), norm=nn.BatchNorm2d(5), b=nn.Linear(5 * 9, 2),
    )  # fmt: skip


def test_it_is_that_of_what_the_next_layer_reads():
    x = torch.randn(4, 2, 5, 5)
    model, program = net(x)
    with torch.no_grad():
        seen = torch.tanh(model.norm(model.a(x)))
    expected = seen.double().transpose(0, 1).flatten(1).var(1, correction=0)
    torch.testing.assert_close(variances(program, signals=signals(program))["a"], expected)


def test_batches_add_up_even_far_from_zero():
    _, program = wired(lambda s, x: s.b(s.a(x)), (torch.randn(4, 3),), a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    with torch.no_grad():
        program.parameters["a.bias"].fill_(1e4)
    apart, whole = parts(torch.randn(12, 3), count=3)
    one, other = (variances(program, task, signals=signals(program))["a"] for task in (apart, whole))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=0)
    assert bool((other < 100).all())


def test_two_places_count_as_more_data():
    def wire(s, x):
        y = s.a(x)
        return s.b(torch.relu(y)) + s.c(torch.tanh(y))

    x = torch.randn(6, 3)
    parts_of = {"a": nn.Linear(3, 4), "b": nn.Linear(4, 2), "c": nn.Linear(4, 2)}
    model, program = wired(wire, (x,), **parts_of)
    with torch.no_grad():
        seen = torch.cat([torch.relu(model.a(x)), torch.tanh(model.a(x))])
    found = variances(program, signals=signals(program))["a"]
    torch.testing.assert_close(found, seen.double().var(0, correction=0))


def test_blocks_have_that_of_what_they_add():
    model, program = mlp()
    with torch.no_grad():
        x = model.stem(program.example.args[0])
        added = model.blocks[0](x)
    found = variances(program, blocks=blocks(program))["blocks.0"]
    torch.testing.assert_close(found, added.double().var(0, correction=0), rtol=1e-4, atol=1e-8)  # a float32 difference
