import copy

import pytest
import torch
from helpers.regression import Regression
from helpers.residual import mlp, wired
from helpers.stats import measure
from helpers.trials import of_groups
from torch import nn

from sparsify.blocks import blocks
from sparsify.errors import PassError


def divergence(whole, other):
    p, q = whole.double().softmax(-1), other.double().softmax(-1)
    return float((p * (p / q).log()).sum(-1).mean())


def test_it_is_the_divergence_of_the_probabilities_over_all_batches():
    model, program = mlp()
    task = Regression(count=3)
    found = of_groups(program, ["output-divergence"], task).found["output-divergence"]["blocks.0.0"]
    x = torch.cat([x for x, _ in task.batches("train")])
    with torch.no_grad():
        for index in range(6):
            other = copy.deepcopy(model)
            other.blocks[0][2].weight[:, index] = 0
            assert float(found[index]) == pytest.approx(divergence(model(x), other(x)), rel=1e-4)


def test_a_block_is_skipped():
    model, program = mlp()
    found = measure(program, ["output-divergence"], blocks=blocks(program)).found["output-divergence"]
    other = copy.deepcopy(model)
    other.blocks = nn.ModuleList([model.blocks[0], model.blocks[2]])
    x = program.example.args[0]
    with torch.no_grad():
        assert float(found["blocks.1"]) == pytest.approx(divergence(model(x), other(x)), rel=1e-4)
    assert found["blocks.1"].shape == ()


def test_every_position_of_a_sequence_counts():
    model, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (torch.randn(2, 7, 3),), a=nn.Linear(3, 4),
                           b=nn.Linear(4, 5))  # fmt: skip
    found = of_groups(program, ["output-divergence"]).found["output-divergence"]["a"]
    x = program.example.args[0]
    with torch.no_grad():
        other = copy.deepcopy(model)
        other.b.weight[:, 2] = 0
        assert float(found[2]) == pytest.approx(divergence(model(x), other(x)), rel=1e-4)


def test_an_output_without_classes_is_refused():
    _, program = wired(lambda s, x: s.b(s.a(x)), (torch.randn(2, 3),), a=nn.Linear(3, 4), b=nn.Linear(4, 1))
    with pytest.raises(PassError, match=r"kl compares probabilities of classes, and the output \[2, 1\] has none"):
        of_groups(program, ["output-divergence"])
