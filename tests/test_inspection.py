import json

import pytest
import torch
from helpers.command import BLOCKS, small_program
from torch import nn

from sparsify.capture import capture
from sparsify.cost import cost
from sparsify.inspection import inspection
from sparsify.pipeline import run
from sparsify.prunable import prunable


@pytest.fixture(scope="module")
def program():
    return small_program()


def test_a_residual_network(program):
    found = inspection(program)
    assert [block.name for block in found.blocks] == BLOCKS
    assert found.cost == cost(program)
    assert found.inputs == {"images": "float32[batch, 1, 8, 8]"}
    assert found.outputs == ["float32[batch, 10]"]
    assert found.dynamic_batch


@pytest.mark.parametrize("name", ["layer1.0", "layer2.1"])
def test_what_a_block_saves_is_what_its_removal_saves(program, name):
    before, after = cost(program), cost(run(program, [f"layer-prune:blocks={name}"]).program)
    assert inspection(program).savings[name] == (before.parameters - after.parameters, before.macs - after.macs)


def test_everything_is_json(program):
    found = inspection(program).as_dict()
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, default=repr))
    general = {"cost", "inputs", "outputs", "dynamic_batch", "notes", "blocks"}
    assert set(found) == general | {"groups", "frozen", "prunable", "operators_without_a_rule"}
    refused = next(block for block in found["blocks"] if block["name"] == "layer2.0")
    assert not refused["removable"]
    assert "shortcut" in refused["reason"]
    assert refused["parameter_count"] > 0
    assert refused["macs"] > 0


def test_groups(program):
    found = inspection(program)
    assert found.prunable == prunable(program)
    assert found.as_dict().items() >= prunable(program).as_dict().items()


def test_sublayers_are_listed_on_demand():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    program = capture(model, (torch.randn(2, 3, 8),))
    layers, sublayers = inspection(program), inspection(program, "sublayer")
    assert len(layers.blocks) == 2
    assert len(sublayers.blocks) == 4
    assert sum(parameters for parameters, _ in layers.savings.values()) == sum(
        parameters for parameters, _ in sublayers.savings.values()
    )
