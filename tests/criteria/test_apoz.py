import pytest
import torch
from helpers.given import signals
from helpers.residual import mlp, wired
from helpers.stats import channel_stats, measure, weight_stats
from torch import nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.criteria.apoz import Apoz
from sparsify.errors import PassError
from sparsify.groups import groups_of


def test_formula():
    assert Apoz().channel(channel_stats(3, zero_share=[0.0, 0.25, 1.0])).tolist() == [1.0, 0.75, 0.0]


def silent():
    """A network whose third hidden channel is never above zero."""
    model, program = wired(
        lambda s, x: s.b(torch.relu(s.a(x))), (torch.randn(50, 3),), a=nn.Linear(3, 4), b=nn.Linear(4, 2)
    )
    with torch.no_grad():
        model.a.weight[2] *= 0.01
        model.a.bias[2] = -5.0
        model.b.weight[:, 2] = 100.0  # large weights do not save it
    return program


def test_a_silent_channel_is_last():
    program = silent()
    (group,) = [group for group in groups_of(axes(program)) if not group.frozen]
    measured = measure(program, Apoz.needs, signals=signals(program))
    scores = Apoz().channel(measured.of_channels(group))
    assert scores.argmin() == 2
    assert scores[2] == 0


def test_a_silent_channel_is_pruned():
    pruned = sp.run(silent(), ["channel-prune:sparsity=0.25,criterion=apoz"]).program
    assert (~pruned.masks["a.weight"]).any(1).tolist() == [False, False, True, False]


def test_single_weights_and_blocks_are_no_matter_of_it():
    with pytest.raises(TypeError, match="Apoz does not score single weights"):
        Apoz().weight(weight_stats([1.0]))
    with pytest.raises(PassError, match="apoz scores channels, not blocks"):
        sp.run(mlp()[1], ["layer-prune:criterion=apoz"])
