"""A network with attention that learns the task of `helpers.sparse` in seconds."""

import torch
from torch import nn

import sparsify as sp


class Attending(nn.Module):
    """Four tokens of three numbers; attention of four heads and a perceptron of 24 neurons, each with a shortcut."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 16)
        self.norm, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.embed(x.view(-1, 4, 3))
        y = self.norm(x)
        q, k, v = (layer(y).view(-1, 4, 4, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.o(y.transpose(1, 2).reshape(-1, 4, 16))
        x = x + self.down(torch.relu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


def attending(seed=0):
    """Return the program of one."""
    torch.manual_seed(seed)
    return sp.capture(Attending(), (torch.randn(4, 12),))
