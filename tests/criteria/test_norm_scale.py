import pytest
import torch
from helpers.stats import channel_stats

import sparsify as sp
from sparsify.criteria.norm_scale import NormScale
from sparsify.demo_net import digits_resnet
from sparsify.errors import PassError


def test_the_mean_of_absolute_scales_over_the_norms():
    stats = channel_stats(3, scales=[[[-2.0], [0.5], [0.0]], [[4.0], [1.5], [0.0]]])
    assert NormScale().channel(stats).tolist() == [3.0, 1.0, 0.0]


def test_a_head_has_the_mean_of_its_scales():
    assert NormScale().channel(channel_stats(2, scales=[[[1.0, -3.0], [1.0, 1.0]]])).tolist() == [2.0, 1.0]


def test_a_group_without_a_norm_is_refused():
    with pytest.raises(PassError, match=r"a group of 2 channels goes through none\. Protect it"):
        NormScale().channel(channel_stats(2, made=[torch.ones(2, 3)]))


def test_channels_whose_scale_was_trained_away_are_pruned():
    model = digits_resnet()
    with torch.no_grad():
        model.layer1[0].bn1.weight[[1, 5, 6, 11]] = 0.0
    program = sp.capture(model, (torch.randn(2, 1, 8, 8),))
    pruned = sp.run(program, ["channel-prune:sparsity=0.25,criterion=norm-scale"]).program
    gone = ~pruned.masks["layer1.0.bn1.weight"]
    assert gone.nonzero().flatten().tolist() == [1, 5, 6, 11]
