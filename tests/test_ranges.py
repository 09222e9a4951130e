import math

import pytest
import torch
import torch.nn.functional as F
from helpers.residual import wired
from torch import nn

from sparsify.ranges import is_redundant, ranges

ANYTHING = (-math.inf, math.inf)
X = torch.randn(2, 3, 8, 8)


def analysed(wire, x=X, **parts):
    _, program = wired(wire, (x,), **parts)
    known = ranges(program.graph)
    output = next(iter(reversed(program.graph.nodes))).all_input_nodes[-1]
    return known, output


CASES = {
    "an input": (lambda s, x: x * 1.0, ANYTHING),
    "relu": (lambda s, x: x.relu(), (0, math.inf)),
    "relu6": (lambda s, x: F.relu6(x), (0, 6)),
    "hardtanh": (lambda s, x: F.hardtanh(x, -2.0, 3.0), (-2, 3)),
    "hardtanh's defaults": (lambda s, x: F.hardtanh(x), (-1, 1)),
    "clamp_min": (lambda s, x: torch.clamp_min(x, 2), (2, math.inf)),
    "clamp": (lambda s, x: x.clamp(min=1), (1, math.inf)),
    "clamp above": (lambda s, x: x.clamp(max=4), (-math.inf, 4)),
    "clamp by a tensor": (lambda s, x: torch.clamp(x, max=x.mean()), ANYTHING),
    "a clamp of a clamp": (lambda s, x: x.clamp(-1, 1).clamp(0, 5), (0, 1)),
    "a clamp above what comes in": (lambda s, x: x.clamp(-2, -1).relu(), (0, 0)),
    "sigmoid": (lambda s, x: x.sigmoid(), (0, 1)),
    "softmax": (lambda s, x: x.softmax(-1), (0, 1)),
    "max pooling": (lambda s, x: F.max_pool2d(x.relu(), 3, 2, 1), (0, math.inf)),
    "average pooling": (lambda s, x: F.avg_pool2d(x.clamp(1, 6), 3, 2, 1), (0, 6)),
    "average with a divisor": (lambda s, x: F.avg_pool2d(F.relu6(x), 2, divisor_override=1), (0, math.inf)),
    "mean": (lambda s, x: x.relu().mean((2, 3)), (0, math.inf)),
    "padding by reflection": (lambda s, x: F.pad(x.clamp(1, 2), (1, 1, 1, 1), mode="reflect"), (0, 2)),
    "padding": (lambda s, x: F.pad(x.relu(), (1, 1), value=-3.0), (-3, math.inf)),
    "views": (lambda s, x: F.relu6(x).flatten(1).unsqueeze(1).transpose(0, 1)[:, :1], (0, 6)),
    "dropout scales up": (lambda s, x: s.drop(F.relu6(x)), (0, math.inf)),
    "dropout of anything": (lambda s, x: s.drop(x), ANYTHING),
    "a sum of positives": (lambda s, x: x.relu() + x.sigmoid(), (0, math.inf)),
    "a product of positives": (lambda s, x: x.relu() * x.sigmoid(), (0, math.inf)),
    "a difference": (lambda s, x: torch.add(x.relu(), x.sigmoid(), alpha=-1), ANYTHING),
    "a sum with anything": (lambda s, x: x.relu() + x, ANYTHING),
    "a convolution of positives": (lambda s, x: s.conv(x.relu()), ANYTHING),
    "leaky relu": (lambda s, x: F.leaky_relu(x), ANYTHING),
}


@pytest.mark.parametrize("case", CASES)
def test_bounds(case):
    wire, expected = CASES[case]
    known, output = analysed(wire, conv=nn.Conv2d(3, 3, 1), drop=nn.Dropout())
    assert known[output] == expected


REDUNDANT = {
    "relu of relu": (lambda s, x: x.relu().relu(), True),
    "relu of relu6": (lambda s, x: F.relu6(x).relu(), True),
    "relu6 of relu": (lambda s, x: F.relu6(x.relu()), False),
    "relu6 of a smaller clamp": (lambda s, x: F.relu6(x.clamp(1, 5)), True),
    "relu of a pooled relu": (lambda s, x: F.max_pool2d(x.relu(), 2).relu(), True),
    "relu of anything": (lambda s, x: x.relu(), False),
    "relu of leaky relu": (lambda s, x: F.leaky_relu(x).relu(), False),
    "relu6 behind dropout": (lambda s, x: F.relu6(s.drop(F.relu6(x))), False),
    "clamp to one value": (lambda s, x: x.relu().clamp(0, 0), False),
    "not a clamp": (lambda s, x: x.relu().tanh(), False),
}


@pytest.mark.parametrize("case", REDUNDANT)
def test_redundancy(case):
    wire, expected = REDUNDANT[case]
    known, output = analysed(wire, drop=nn.Dropout())
    assert is_redundant(output, known) is expected
