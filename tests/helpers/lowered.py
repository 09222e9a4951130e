"""A network with layers of every kind that is lowered, and of some that are not."""

import functools

import torch
from torch import nn

import sparsify as sp

LOWERINGS = {
    "lower-index": "weight-prune:sparsity=0.7,scope=layer",
    "lower-bitmask": "weight-prune:sparsity=0.5,scope=layer",
    "lower-nm": "weight-prune:pattern=2:4",
    "lower-block:pattern=block4": "weight-prune:pattern=block4,sparsity=0.5,scope=layer",
}


class Mixed(nn.Module):
    """Layers of every kind that is lowered, and of some that are not."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(4, 8, 3, padding=1)
        self.point = nn.Conv2d(8, 16, 1)
        self.stride = nn.Conv2d(16, 16, 1, stride=2)
        self.first = nn.Linear(16, 24)
        self.second = nn.Linear(24, 24, bias=False)
        self.turned = nn.Parameter(torch.randn(24, 12))
        self.added = nn.Parameter(torch.randn(12, 8))
        self.bias = nn.Parameter(torch.randn(8))

    def forward(self, x):
        x = self.stride(self.point(self.wide(x).relu()).relu()).mean((2, 3))
        x = self.second(self.first(x).relu()).relu()
        x = x @ self.turned
        return torch.addmm(self.bias, x, self.added)


@functools.cache
def mixed():
    """Return the network as a program."""
    torch.manual_seed(0)
    return sp.capture(Mixed(), (torch.randn(2, 4, 6, 6),))


def lower(spec):
    """Return what a pass makes of the network, pruned for it."""
    return sp.run(mixed(), [LOWERINGS[spec], spec])


def operators(program):
    """Return the sparse operators of a program, in order."""
    return [
        node.target._schema.name
        for node in program.graph.nodes
        if "sparsify::" in str(getattr(node.target, "_schema", ""))
    ]
