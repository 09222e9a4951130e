"""shrink: what masks made removable is gone, and nothing else changes."""

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.errors import ContractError
from sparsify.masking import masked

GOLDEN = """
%input_1: float32[batch, 3, 8, 8] = input
%conv2d: float32[batch, 3, 6, 6] = conv2d(%input_1, 0.weight, 0.bias)
%relu: float32[batch, 3, 6, 6] = relu(%conv2d)
%conv2d_1: float32[batch, 5, 6, 6] = conv2d(%relu, 2.weight, 2.bias)
return [%conv2d_1]
"""


def net(padding=0, bias=True):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3 if padding else 1, padding=padding, bias=bias)
    )


def program_of(model, *shape):
    return sp.capture(model, (torch.randn(2, *shape),))


def without(program, **rows):
    """Mask whole rows (output channels) of parameters; keys write a dot as two underscores."""
    masks = {}
    for key, gone in rows.items():
        name = key.replace("__", ".").lstrip("_")
        masks[name] = torch.ones_like(program.parameters[name], dtype=torch.bool)
        masks[name][gone] = False
    return masked(program, masks)


def shrunk(program):
    result = sp.run(program, ["shrink"])
    return result.program, result.report["passes"][0]


def test_a_masked_channel_is_gone_everywhere():
    program, record = shrunk(without(program_of(net(), 3, 8, 8), _0__weight=[1], _0__bias=[1]))
    assert str(program) == GOLDEN.strip()
    assert record["removed"] == {"0": "4 -> 3"}
    assert record["contract"] == "exact"
    assert {name: tuple(value.shape) for name, value in program.parameters.items()} == {
        "0.weight": (3, 3, 3, 3), "0.bias": (3,), "2.weight": (5, 3, 1, 1), "2.bias": (5,)}  # fmt: skip


def test_what_is_kept_keeps_its_bits():
    before = program_of(net(), 3, 8, 8)
    program, _ = shrunk(without(before, _0__weight=[0, 2], _0__bias=[0, 2]))
    assert torch.equal(program.parameters["0.weight"], before.parameters["0.weight"][[1, 3]])
    assert torch.equal(program.parameters["2.weight"], before.parameters["2.weight"][:, [1, 3]])


def test_a_masked_consumer_is_enough():
    before = program_of(net(), 3, 8, 8)
    mask = torch.ones(5, 4, 1, 1, dtype=torch.bool)
    mask[:, 2] = False
    program, record = shrunk(masked(before, {"2.weight": mask}))
    assert record["removed"] == {"0": "4 -> 3"}
    assert program.parameters["0.weight"].shape[0] == 3


@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_moves_into_the_next_bias(bias):
    model = net(bias=bias)
    model[0].bias.data.fill_(0.7)
    before = without(program_of(model, 3, 8, 8), _0__weight=[1])
    program, record = shrunk(before)
    assert record["removed"] == {"0": "4 -> 3"}
    moved = 0.7 * model[2].weight[:, 1, 0, 0]
    expected = moved + model[2].bias if bias else moved
    torch.testing.assert_close(program.parameters["2.bias"], expected)


def test_a_constant_behind_a_padded_convolution_stays():
    before = without(program_of(net(padding=1), 3, 8, 8), _0__weight=[1])
    program, record = shrunk(before)
    assert record["removed"] == {}
    assert set(program.masks) == {"0.weight"}


def test_single_masked_weights_stay_masked():
    before = program_of(net(), 3, 8, 8)
    mask = torch.rand(4, 3, 3, 3) > 0.3
    mask[2] = False
    bias = torch.tensor([True, True, False, True])
    program, record = shrunk(masked(before, {"0.weight": mask, "0.bias": bias}))
    assert record["removed"] == {"0": "4 -> 3"}
    assert set(program.masks) == {"0.weight"}
    assert torch.equal(program.masks["0.weight"], mask[[0, 1, 3]])


def test_one_index_stays_when_all_are_masked():
    program, record = shrunk(without(program_of(net(), 3, 8, 8), _0__weight=slice(None), _0__bias=slice(None)))
    assert record["removed"] == {"0": "4 -> 1"}
    assert program.parameters["0.weight"].shape[0] == 1


def test_a_masked_output_stays():
    program, record = shrunk(without(program_of(net(), 3, 8, 8), _2__weight=[0], _2__bias=[0]))
    assert record["removed"] == {}
    assert set(program.masks) == {"2.weight", "2.bias"}


def test_a_channel_that_a_norm_counts_stays():
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 5))
    before = program_of(model, 6)
    gone = {"_0__weight": [3], "_0__bias": [3], "_1__weight": [3], "_1__bias": [3]}
    program, record = shrunk(without(before, **gone))
    assert record["removed"] == {}
    assert program.parameters["0.weight"].shape == (8, 6)


def test_without_masks_nothing_happens():
    before = program_of(net(), 3, 8, 8)
    program, record = shrunk(before)
    assert record["removed"] == {}
    assert str(program) == str(before)


def test_a_shrunken_program_trains_and_is_saved(tmp_path):
    program, _ = shrunk(without(program_of(net(), 3, 8, 8), _0__weight=[1], _0__bias=[1]))
    sp.save(program, tmp_path / "small.pt2")
    assert str(sp.load(tmp_path / "small.pt2")) == str(program)
    module = program.module(training=True)
    module(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(value.grad is not None for value in module.parameters())


def test_a_wrong_shrink_is_caught(monkeypatch):
    from sparsify.passes import shrink

    monkeypatch.setattr(shrink.Constants, "fold", lambda self, program, keep: program)
    model = net()
    model[0].bias.data.fill_(0.7)
    with pytest.raises(ContractError, match="shrink: The outputs differ"):
        shrunk(without(program_of(model, 3, 8, 8), _0__weight=[1]))
