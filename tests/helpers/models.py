"""Small models and what tests do with them: forward written as a function, training steps, comparison of bits."""

import copy

import torch
from torch import nn
from torch.utils import _pytree as pytree


class Net(nn.Module):
    """A module whose forward is a function of itself and one input."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


class ConvNet(nn.Module):
    """Convolution, batch norm, dropout and a classifier: every kind of state that a mode switches."""

    def __init__(self, dropout=0.5):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(self.dropout(x).mean((2, 3)))


def linear(**more):
    """Return the modules of a `Net` with one linear layer from 4 to 4."""
    torch.manual_seed(0)
    return {"l": nn.Linear(4, 4), **more}


def rows(count=3, width=4, seed=1):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def images(count=2, seed=1):
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def run(module, args, seed=0):
    """Return the flat outputs of one call on copies of the inputs, with a fixed seed."""
    torch.manual_seed(seed)
    return pytree.tree_leaves(module(*(a.clone() if isinstance(a, torch.Tensor) else a for a in args)))


def train(module, args, steps=3):
    """Take SGD steps on the sum of the squared outputs and return the losses."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    losses = []
    for step in range(steps):
        loss = sum(leaf.square().sum() for leaf in run(module, args, seed=step) if leaf.requires_grad)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def state(module):
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def equal_leaves(found, expected):
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def trains_like(program, model, args):
    """Whether three steps of the program's module leave the values, state and evaluation output of the eager steps."""
    eager, module = copy.deepcopy(model).train(), program.module(training=True)
    if train(eager, args) != train(module, args):
        return False
    mine, theirs = state(module), state(eager)
    same = all(torch.equal(value, theirs[name]) for name, value in mine.items() if name in theirs)
    with torch.no_grad():
        return same and equal_leaves(run(module.eval(), args), run(eager.eval(), args))
