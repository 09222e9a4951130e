import copy

import pytest
import torch
from helpers.regression import Regression
from helpers.residual import mlp
from helpers.stats import block_stats, measure, weight_stats
from torch import nn

from sparsify.blocks import blocks
from sparsify.criteria.oracle import Oracle


def damages(program, task, **options):
    statistics = measure(program, Oracle.needs, task, **options, blocks=blocks(program))
    return {block.name: Oracle().block(statistics.of_block(block)) for block in blocks(program)}


def skipping(model, index):
    model = copy.deepcopy(model)
    model.blocks = nn.ModuleList(block for i, block in enumerate(model.blocks) if i != index)
    return model


def test_the_rise_of_the_loss_without_the_block():
    model, program = mlp()
    task = Regression()
    found = damages(program, task, batches=2, seed=1)
    batches = list(task.batches("train", seed=1))[:2]
    with torch.no_grad():
        base = sum(float(task.loss(model, batch)) for batch in batches) / 2
        for index in range(3):
            loss = sum(float(task.loss(skipping(model, index), batch)) for batch in batches) / 2
            assert found[f"blocks.{index}"] == pytest.approx(loss - base, abs=1e-6)


def test_without_a_task_the_relative_change_of_the_output():
    model, program = mlp()
    found = damages(program, None)
    with torch.no_grad():
        expected = model(*program.example.args)
        other = skipping(model, 1)(*program.example.args)
    assert found["blocks.1"] == pytest.approx(float((expected - other).norm() / expected.norm()), rel=1e-5)


def test_a_block_that_does_nothing_does_no_damage():
    model, program = mlp()
    with torch.no_grad():
        for parameter in model.blocks[1][2].parameters():
            parameter.zero_()
    found = damages(program, Regression())
    assert found["blocks.1"] == 0.0
    assert abs(found["blocks.0"]) > 0


def test_single_weights_have_no_oracle():
    with pytest.raises(TypeError, match="Oracle does not score single weights"):
        Oracle().weight(weight_stats([1.0]))
    assert Oracle().block(block_stats(damage=0.25)) == 0.25
