import pytest
import torch
from helpers.gates import TASK, batches
from helpers.residual import mlp, resnet
from helpers.stats import measure
from torch import nn
from torch.nn import functional as F

from sparsify.blocks import blocks


def turned(model, x, index):
    value = model.stem(x)
    for part in model.blocks[:index]:
        value = value + part(value)
    return 1 - F.cosine_similarity(value, value + model.blocks[index](value))


def test_two_batches_are_the_mean_over_all_their_examples():
    model, program = mlp()
    found = measure(program, ["influence"], TASK, batches=2, blocks=blocks(program)).found["influence"]
    x = torch.cat([x for x, _ in batches(2)])
    with torch.no_grad():
        for index in range(3):
            expected = float(turned(model, x, index).mean())
            assert found[f"blocks.{index}"] == pytest.approx(expected, rel=1e-4)  # float32 against float64


def test_the_example_is_enough_without_a_task():
    model, program = mlp()
    found = measure(program, ["influence"], None, blocks=blocks(program)).found["influence"]
    with torch.no_grad():
        expected = float(turned(model, program.example.args[0], 0).mean())
    assert found["blocks.0"] == pytest.approx(expected, rel=1e-4)  # float32 against float64


def test_a_block_that_adds_nothing_has_none():
    model, program = mlp()
    with torch.no_grad():
        nn.init.zeros_(model.blocks[1][2].weight)
        nn.init.zeros_(model.blocks[1][2].bias)
    found = measure(program, ["influence"], TASK, blocks=blocks(program)).found["influence"]
    assert float(found["blocks.1"]) == pytest.approx(0, abs=1e-12)
    assert float(found["blocks.0"]) > 1e-6


def test_an_image_counts_as_a_whole():
    model, program = resnet()
    found = measure(program, ["influence"], None, blocks=blocks(program)[:1]).found["influence"]
    with torch.no_grad():
        before = model.act(model.conv1(program.example.args[0]))
        part = model.layer1[0]
        after = before + part.bn2(part.conv2(part.act(part.bn1(part.conv1(before)))))
        expected = (1 - F.cosine_similarity(before.flatten(1), after.flatten(1))).mean()
    assert found["layer1.0"] == pytest.approx(float(expected), rel=1e-4)  # float32 against float64
