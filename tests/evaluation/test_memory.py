import torch
from torch import nn

import sparsify as sp
from sparsify.evaluation.memory import peak_bytes


class Chain(nn.Module):
    """64 values in, 512 in the middle, 64 out; a view costs nothing."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(64, 512), nn.Linear(512, 64)

    def forward(self, x):
        return self.narrow(torch.tanh(self.wide(x)).view(-1, 512))


class Shortcut(Chain):
    def forward(self, x):
        return x + super().forward(x)


def test_two_values_are_alive_at_once():
    program = sp.capture(Chain(), (torch.randn(2, 64),))
    # At tanh: what it reads and what it makes, 512 floats each; the input is gone by then.
    assert peak_bytes(program, 1) == 2 * 512 * 4
    assert peak_bytes(program, 5) == 5 * peak_bytes(program, 1)


def test_a_shortcut_keeps_its_input():
    program = sp.capture(Shortcut(), (torch.randn(2, 64),))
    assert peak_bytes(program, 1) == (64 + 2 * 512) * 4


def test_parameters_do_not_count():
    program = sp.capture(nn.Linear(4, 4), (torch.randn(2, 4),))
    assert peak_bytes(program, 1) == 2 * 4 * 4
