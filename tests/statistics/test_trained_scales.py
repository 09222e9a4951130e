import pytest
import torch
from helpers.given import Given, parts, signals
from helpers.regression import Regression
from helpers.residual import mlp, wired
from helpers.stats import measure
from torch import nn

from sparsify.blocks import blocks
from sparsify.observation.calibration import Calibration
from sparsify.observation.signals import block_signals
from sparsify.observation.subject import Subject
from sparsify.statistics.trained_scales import TrainedScales


def separable():
    """Two of four hidden channels tell the classes apart, the third is noise, the fourth is read by nobody."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 2
    x = torch.randn(40, 3, generator=generator) * 0.1
    x[:, 0] += 2 * y - 1
    model, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (x[:2],), a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 3.0, 0], [0, 0, 1.0]]))
        model.a.bias.zero_()
        model.b.weight.copy_(torch.tensor([[-1.0, 1.0, 0.5, 0.0], [1.0, -1.0, -0.5, 0.0]]))
        model.b.bias.zero_()
    return program, parts(x, y, count=4)[0]


def test_scales_grow_where_the_loss_falls_and_shrink_where_it_does_not_care():
    program, task = separable()
    scales = measure(program, ["trained-scales"], task, signals=signals(program)).found["trained-scales"]["a"]
    assert scales[:2].min() > 1 > scales[3] > scales[2]


def test_a_scale_of_nothing_decays_by_the_penalty_alone():
    program, task = separable()
    subject = Subject(program, Calibration(task), [], signals(program))
    found = TrainedScales(rounds=1, rate=0.1, strength=0.01, momentum=0.0).measure(subject)["a"]
    assert found[3] == pytest.approx(1 - 4 * 0.1 * 0.01, abs=1e-6)


def test_useless_scales_become_exactly_zero():
    program, task = separable()
    subject = Subject(program, Calibration(task), [], signals(program))
    found = TrainedScales(rounds=40, strength=0.1).measure(subject)["a"]
    assert found[2:].tolist() == [0.0, 0.0]
    assert bool((found[:2] > 0).all())


def test_the_steps_are_those_of_the_accelerated_proximal_gradient():
    x = torch.randn(5, 3)
    model, program = wired(lambda s, x: s.b(s.a(x)), (x,), a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    y = torch.tensor([0, 1, 1, 0, 1])
    subject = Subject(program, Calibration(Given([(x, y)])), [], signals(program))
    found = TrainedScales(rounds=3, rate=0.5, strength=0.2, momentum=0.8).measure(subject)["a"]

    ahead, velocity = torch.ones(4), torch.zeros(4)
    for _ in range(3):
        gate = ahead.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model.b(model.a(x) * gate), y)
        moved = ahead - 0.5 * torch.autograd.grad(loss, gate)[0]
        scale = moved.sign() * (moved.abs() - 0.5 * 0.2).clamp_min(0)
        velocity = scale - ahead + 0.8 * velocity
        ahead = scale + 0.8 * velocity
    torch.testing.assert_close(found, scale)


def test_a_block_has_a_single_scale_and_one_that_adds_nothing_shrinks_most():
    model, program = mlp()
    with torch.no_grad():
        model.blocks[1][2].weight.zero_()
        model.blocks[1][2].bias.zero_()
    signalled = block_signals(program, blocks(program))
    subject = Subject(program, Calibration(Regression()), [], signalled, blocks(program))
    found = TrainedScales(rounds=2, rate=0.01, strength=0.1, momentum=0.0).measure(subject)
    assert {name: tuple(value.shape) for name, value in found.items()} == {f"blocks.{i}": (1,) for i in range(3)}
    assert float(found["blocks.1"]) == pytest.approx(1 - 2 * 4 * 0.01 * 0.1, abs=1e-6)


def test_scales_of_blocks_in_a_row_are_those_of_their_branches():
    model, program = mlp(depth=2)
    x, y = torch.randn(6, 3), torch.arange(6) % 2
    subject = Subject(program, Calibration(Given([(x, y)])), [], block_signals(program, blocks(program)))
    found = TrainedScales(rounds=6, rate=0.5, strength=0.01, momentum=0.0).measure(subject)
    scales = torch.ones(2)
    for _ in range(6):
        gates = scales.clone().requires_grad_()
        hidden = model.stem(x)
        for gate, block in zip(gates, model.blocks, strict=True):
            hidden = hidden + gate * block(hidden)
        moved = scales - 0.5 * torch.autograd.grad(nn.functional.cross_entropy(model.head(hidden), y), gates)[0]
        scales = nn.functional.softshrink(moved, 0.5 * 0.01)
    torch.testing.assert_close(torch.cat(list(found.values())), scales)


def test_the_program_is_left_as_it_is():
    program, task = separable()
    before = {name: value.clone() for name, value in program.parameters.items()}
    measure(program, ["trained-scales"], task, signals=signals(program))
    assert all(torch.equal(before[name], value) for name, value in program.parameters.items())
    assert all(value.grad is None for value in program.parameters.values())


def test_nothing_to_scale_takes_no_run():
    task = Regression()
    assert measure(mlp()[1], ["trained-scales"], task, signals=[]).found["trained-scales"] == {}
    assert task.asked == 0
