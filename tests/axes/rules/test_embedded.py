import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.freezing import frozen, redrawn


def perceptron():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 3))
    return sp.capture(net, (torch.randn(4, 6),))


def half(program, name):
    return {name: torch.arange(program.parameters[name].numel()).view_as(program.parameters[name]) % 2 == 0}


@pytest.mark.parametrize("seed", [None, 7], ids=["stored", "from a seed"])
def test_channels_of_a_frozen_weight_stay_and_others_go(seed):
    program = redrawn(perceptron(), 7)
    program = frozen(program, half(program, "0.weight"), seed)
    reasons = {group.name: group.reason for group in sp.groups(program) if group.frozen}
    assert any("`--pass fold` writes it out" in reason for reason in reasons.values())
    assert [group.size for group in sp.groups(program) if not group.frozen] == [10]
    pruned = sp.run(program, ["channel-prune:sparsity=0.5", "shrink"]).program
    assert pruned.parameters["2.weight"].shape == (5, 8)
    assert pruned.parameters["0.weight"].shape == (8, 6)
    assert pruned.frozen.keys() == {"0.weight"}


@pytest.mark.parametrize("spec", ["embed:kind=dct,sparsity=0.5", "embed:kind=projection,dimension=20"])
def test_what_makes_embedded_weights_has_no_unknown_operators(spec):
    program = sp.run(perceptron(), [spec]).program
    assert not axes(program).unknown
    assert all(group.frozen for group in sp.groups(program))
