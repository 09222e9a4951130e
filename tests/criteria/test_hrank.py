import pytest
import torch
from helpers.residual import mlp, wired
from helpers.stats import block_stats, channel_stats
from torch import nn

import sparsify as sp
from sparsify.criteria.hrank import Hrank
from sparsify.errors import PassError


def test_the_score_is_the_mean_rank_and_a_block_has_the_mean_of_its_channels():
    stats = channel_stats(2, map_rank=[1.5, 4.0])
    assert Hrank().channel(stats).tolist() == [1.5, 4.0]
    assert Hrank().block(block_stats(channels=stats)) == 2.75


def test_a_loud_map_of_low_rank_goes_first():
    model, program = wired(
        lambda s, x: s.b(s.a(x)).sum((2, 3)), (torch.randn(6, 2, 5, 5),), a=nn.Conv2d(2, 4, 1), b=nn.Conv2d(4, 2, 3)
    )
    with torch.no_grad():
        model.a.weight[3] = 0.0
        model.a.bias[3] = 100.0  # the same everywhere: rank one
    pruned = sp.run(program, ["channel-prune:sparsity=0.25,criterion=hrank"]).program
    assert (~pruned.masks["a.weight"]).flatten(1).any(1).tolist() == [False, False, False, True]


def test_channels_without_maps_are_refused():
    with pytest.raises(PassError, match="Ranks need feature maps of two dimensions"):
        sp.run(mlp()[1], ["layer-prune:count=1,criterion=hrank"])
