"""Networks with one hidden group or one block, and gradients of gates on their channels, computed on the modules."""

import torch
from helpers.regression import Regression
from helpers.residual import mlp, wired
from torch import nn

from sparsify.axes import axes
from sparsify.blocks import blocks
from sparsify.groups import groups_of
from sparsify.observation.signals import block_signals, group_signals

TASK = Regression(inputs=(3,), outputs=2, count=3)


def batches(count=3, seed=0, task=TASK):
    return [batch for _, batch in zip(range(count), task.batches("train", seed=seed), strict=False)]


def signals_of(program, *, frozen=False):
    """Return the signals of a program's groups that are free."""
    found = axes(program)
    return group_signals(found, [group for group in groups_of(found) if frozen or not group.frozen])


def hidden(width=5):
    """Return a network with one hidden layer, its program, and the signal of that layer."""
    torch.manual_seed(0)
    parts = {"a": nn.Linear(3, width), "b": nn.Linear(width, 2)}
    model, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (torch.randn(4, 3),), **parts)
    (signal,) = signals_of(program)
    return model, program, signal


def hidden_gates(model, found):
    """Return for each of some batches ∂L/∂α of gates on the hidden channels of `hidden`."""
    rows = []
    for x, y in found:
        gate = torch.ones(model.a.out_features, requires_grad=True)
        loss = (model.b(torch.tanh(model.a(x)) * gate) - y).square().mean()
        rows.append(torch.autograd.grad(loss, gate)[0])
    return torch.stack(rows)


def block():
    """Return a residual network, its program, and the signal of its second block."""
    model, program = mlp()
    (signal,) = block_signals(program, [blocks(program)[1]])
    return model, program, signal


def block_gates(model, found):
    """Return for each of some batches ∂L/∂α of gates on what the second block of `block` adds."""
    rows = []
    for x, y in found:
        gate = torch.ones(model.stem.out_features, requires_grad=True)
        value = model.stem(x)
        for index, part in enumerate(model.blocks):
            value = value + part(value) * (gate if index == 1 else 1.0)
        rows.append(torch.autograd.grad((model.head(value) - y).square().mean(), gate)[0])
    return torch.stack(rows)
