import copy

import pytest
import torch
from helpers.gates import TASK, batches
from helpers.residual import mlp
from helpers.stats import measure
from torch import nn

from sparsify.blocks import blocks


def without(model, index):
    smaller = copy.deepcopy(model)
    smaller.blocks = nn.ModuleList(block for i, block in enumerate(model.blocks) if i != index)
    return smaller


@pytest.mark.parametrize("count", [1, 2])
def test_the_rise_of_the_mean_loss(count):
    model, program = mlp()
    found = measure(program, ["damage"], TASK, batches=count, blocks=blocks(program)).found["damage"]
    with torch.no_grad():
        losses = [
            sum(float(TASK.loss(other, batch)) for batch in batches(count)) / count
            for other in (model, *(without(model, index) for index in range(3)))
        ]
    for index in range(3):
        assert found[f"blocks.{index}"] == pytest.approx(losses[1 + index] - losses[0], abs=1e-6)


def test_without_a_task_the_relative_change_of_the_output():
    model, program = mlp()
    found = measure(program, ["damage"], None, blocks=blocks(program)).found["damage"]
    x = program.example.args[0]
    with torch.no_grad():
        expected = (model(x) - without(model, 2)(x)).norm() / model(x).norm()
    assert float(found["blocks.2"]) == pytest.approx(float(expected), rel=1e-5)


def test_only_the_blocks_that_are_asked_for():
    _, program = mlp()
    assert set(measure(program, ["damage"], TASK, blocks=blocks(program)[1:2]).found["damage"]) == {"blocks.1"}
