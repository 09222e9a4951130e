import copy

import pytest
import torch
from helpers.regression import Regression
from helpers.residual import mlp
from helpers.stats import measure
from helpers.trials import ORDER, known_uses, of_channels, of_groups

from sparsify.blocks import blocks


def test_it_is_the_rise_of_the_loss_without_each_channel():
    model, program = mlp()
    task = Regression()
    found = of_groups(program, ["channel-damage"], task, batches=2).found["channel-damage"]["blocks.1.0"]
    batches = list(task.batches("train", seed=0))[:2]
    with torch.no_grad():
        base = sum(float(task.loss(model, batch)) for batch in batches) / 2
        for index in range(6):
            other = copy.deepcopy(model)
            other.blocks[1][2].weight[:, index] = 0
            loss = sum(float(task.loss(other, batch)) for batch in batches) / 2
            assert float(found[index]) == pytest.approx(loss - base, abs=1e-6)


def test_without_a_task_a_dead_channel_changes_nothing_and_the_others_as_much_as_they_are_read():
    _, program = known_uses()
    found = of_channels(program, "channel-damage")
    assert found[0] == 0
    assert found.argsort().tolist() == ORDER


def test_blocks_agree_with_the_damage_of_skipping_them():
    _, program = mlp()
    found = measure(program, ["channel-damage", "damage"], Regression(), blocks=blocks(program)).found
    for name, value in found["damage"].items():
        assert float(found["channel-damage"][name]) == pytest.approx(float(value), abs=1e-5)
