"""redraw: all weights are drawn anew from a seed."""

import pytest
import torch
from helpers.sparse import program_of
from torch import nn

import sparsify as sp
from sparsify.errors import PassError
from sparsify.freezing import redrawn


@pytest.mark.parametrize("init", ["torch", "kaiming", "xavier", "sign"])
def test_weights_are_those_of_the_seed(init):
    program = program_of()
    result = sp.run(program, [f"redraw:init={init}"], seed=9).program
    expected = redrawn(program, 9, init)
    for name, value in expected.parameters.items():
        assert torch.equal(result.parameters[name], value)
    assert not torch.equal(result.parameters["0.weight"], program.parameters["0.weight"])
    own = sp.run(program, [f"redraw:init={init},seed=9"]).program
    assert torch.equal(own.parameters["0.weight"], result.parameters["0.weight"])
    assert str(result) == str(program)


def test_where_there_is_nothing_to_draw_it_says_so():
    program = sp.capture(nn.Sequential(nn.LayerNorm(4), nn.ReLU()), (torch.randn(2, 4),))
    with pytest.raises(PassError, match="this model has none"):
        sp.run(program, ["redraw"])
    (step,) = sp.run(program_of(), ["redraw"], seed=3).report["passes"]
    assert step["done"] == "the weights of 3 layers are drawn anew from the seed 3"


def test_the_mask_stays():
    program = sp.run(program_of(), ["weight-prune:sparsity=0.5", "redraw"]).program
    assert sum(int((~mask).sum()) for mask in program.masks.values()) == 480


def test_frozen_weights_are_refused():
    with pytest.raises(PassError, match=r"2\.weight, 4\.weight are frozen"):
        sp.run(program_of(), ["freeze:sparsity=0.5", "redraw"])
