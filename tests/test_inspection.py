import json

import pytest
import torch
from helpers.command import BLOCKS, small_program
from helpers.zoo import FAMILIES
from torch import nn

from sparsify.capture import capture
from sparsify.cost import cost, macs_by_node
from sparsify.inspection import inspection
from sparsify.pipeline import run
from sparsify.prunable import prunable
from sparsify.removal import remove


@pytest.fixture(scope="module")
def program():
    return small_program()


def test_a_residual_network(program):
    found = inspection(program)
    assert [block.name for block in found.blocks] == BLOCKS
    assert found.cost == cost(program)
    assert found.inputs == {"images": "float32[batch, 1, 8, 8]"}
    assert found.outputs == ["float32[batch, 10]"]
    assert (found.dynamic_batch, found.macs_batch) == (True, 1)


@pytest.mark.parametrize("name", ["layer1.0", "layer2.1"])
def test_what_a_block_saves_is_what_its_removal_saves(program, name):
    before, after = cost(program), cost(run(program, [f"layer-prune:blocks={name}"]).program)
    assert inspection(program).savings[name] == (before.parameters - after.parameters, before.macs - after.macs)


@pytest.mark.parametrize("family", ["llama", "gpt2", "resnet", "mobilenetv2", "t5"])
@pytest.mark.parametrize("granularity", ["layer", "sublayer"])
def test_what_blocks_save_is_what_their_removal_saves_in_every_family(family, granularity):
    model, args, kwargs = FAMILIES[family]()
    program = capture(model, args, kwargs)
    found, before = inspection(program, granularity), sum(macs_by_node(program).values())
    tried = [block for block in found.blocks if block.removable]
    assert tried
    for block in tried:
        after = remove(program, [block], simplify=False)
        assert found.savings[block.name][1] == before - sum(macs_by_node(after).values())


def test_everything_is_json(program):
    found = inspection(program).as_dict()
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, default=repr))
    general = {"cost", "inputs", "outputs", "dynamic_batch", "macs_batch", "notes", "blocks"}
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
