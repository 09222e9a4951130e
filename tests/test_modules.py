import pytest
import torch
from helpers.command import small_program
from torch import nn

import sparsify as sp
from sparsify.cost import cost
from sparsify.modules import Modules, Side, in_order


@pytest.fixture(scope="module")
def program():
    return small_program()


def test_modules_add_up_to_the_model(program):
    found = Modules.of(program)
    sides = [found.side(name) for name in found.values]
    assert sum(side.parameters for side in sides) == cost(program).parameters
    assert sum(side.macs for side in sides) == cost(program).macs
    assert found.side("layer2.1.conv1") == Side((8, 8, 3, 3), 576, 576, 576 * 16)
    assert found.side("nothing") is None


def test_masked_weights_are_zeros(program):
    pruned = sp.run(program, ["weight-prune:sparsity=0.5,only=layer1.0.conv1*"]).program
    side = Modules.of(pruned).side("layer1.0.conv1")
    assert side.nonzero == side.parameters / 2
    assert sum(Modules.of(pruned).side(name).nonzero for name in Modules.of(pruned).values) == cost(pruned).nonzero


def test_a_layer_that_is_used_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x))

    assert Modules.of(sp.capture(Twice(), (torch.randn(2, 4),))).side("fc").macs == 32


def test_blocks_can_have_other_names(program):
    found = Modules.of(program)
    other = found.renamed({"layer2.1": "layer2.7"})
    assert other.side("layer2.7.conv1") == found.side("layer2.1.conv1")
    assert other.side("layer2.1.conv1") is None
    assert "layer2.7.conv1.weight" in other.parameters
    assert len(other.parameters) == len(found.parameters) == len(program.parameters)


def test_names_are_merged_in_order():
    assert in_order(["a", "b", "c"], ["a", "x", "c", "y"]) == ["a", "x", "b", "c", "y"]
    assert in_order([], ["a"]) == ["a"]
