"""Random residual networks for hypothesis: blocks of convolutions or linear layers, norms and activations."""

import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
from hypothesis import strategies as st
from torch import nn

ACTS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": nn.GELU, "none": nn.Identity}


@dataclass(frozen=True)
class Spec:
    """One network: `blocks` are (inner layers, norm, activation, activation after the sum, width of the output)."""

    conv: bool
    width: int
    stem_act: str
    blocks: tuple[tuple[int, bool, str, str, int], ...]
    seed: int

    def build(self):
        """Make the module; its block `i` is called `blocks.i` and its branch `blocks.i.branch`."""
        blocks, width = [], self.width
        for block in self.blocks:
            blocks.append(_Block(self, width, block))
            width = block[-1]
        stem = nn.Sequential(self.layer(3, self.width), ACTS[self.stem_act]())
        return _Network(stem, nn.ModuleList(blocks), self.layer(width, 2))

    def layer(self, width, out):
        """A weight layer that keeps the spatial size."""
        return nn.Conv2d(width, out, 3, padding=1) if self.conv else nn.Linear(width, out)

    def norm(self, width):
        """A batch norm for the kind of network."""
        return nn.BatchNorm2d(width) if self.conv else nn.BatchNorm1d(width)

    def example(self, batch=2):
        """A random input."""
        return torch.randn(batch, 3, 4, 4) if self.conv else torch.randn(batch, 3)

    @property
    def _widths(self):
        return [self.width, *(block[-1] for block in self.blocks)]

    @property
    def removable(self):
        """Names of the blocks that have an identity shortcut."""
        return [f"blocks.{i}" for i, _ in enumerate(self.blocks) if self._widths[i] == self._widths[i + 1]]

    @property
    def projected(self):
        """Names of the blocks with a projection whose branch is the heavier side."""
        return [
            f"blocks.{i}"
            for i, block in enumerate(self.blocks)
            if self._widths[i] != self._widths[i + 1] and block[0] > 1
        ]


class _Block(nn.Module):
    def __init__(self, spec, width, block):
        super().__init__()
        inner, norm, act, after, out = block
        sizes = [width] + [out] * inner
        self.branch = nn.Sequential()
        for index, (before, size) in enumerate(pairwise(sizes)):
            if index:
                self.branch.add_module(f"act{index}", ACTS[act]())
            self.branch.add_module(f"layer{index}", spec.layer(before, size))
            if norm:
                self.branch.add_module(f"norm{index}", spec.norm(size))
        self.shortcut = nn.Identity() if width == out else spec.layer(width, out)
        self.after = ACTS[after]()

    def forward(self, x):
        return self.after(self.shortcut(x) + self.branch(x))


class _Network(nn.Module):
    def __init__(self, stem, blocks, head):
        super().__init__()
        self.stem, self.blocks, self.head = stem, blocks, head

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class _Zero(nn.Module):
    def forward(self, x):
        return torch.zeros(())


def zeroed(model, name):
    """Return a copy of the network in which the branch of the block `name` gives zero."""
    model = copy.deepcopy(model)
    model.get_submodule(name).branch = _Zero()
    return model


def networks():
    """Draw a Spec."""
    block = st.tuples(
        st.integers(1, 2),
        st.booleans(),
        st.sampled_from(list(ACTS)),
        st.sampled_from(list(ACTS)),
        st.sampled_from((3, 4)),
    )
    return st.builds(
        Spec,
        conv=st.booleans(),
        width=st.sampled_from((3, 4)),
        stem_act=st.sampled_from(list(ACTS)),
        blocks=st.lists(block, min_size=1, max_size=3).map(tuple),
        seed=st.integers(0, 99),
    )
