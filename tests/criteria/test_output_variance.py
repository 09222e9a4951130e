import torch
from helpers.residual import wired
from helpers.stats import block_stats, channel_stats
from torch import nn

import sparsify as sp
from sparsify.criteria.output_variance import OutputVariance


def test_the_score_is_the_variance_and_a_block_has_the_mean():
    stats = channel_stats(2, activation_variance=[0.5, 1.5])
    assert OutputVariance().channel(stats).tolist() == [0.5, 1.5]
    assert OutputVariance().block(block_stats(channels=stats)) == 1.0


def test_a_loud_channel_that_never_changes_goes_first_and_one_that_changes_its_sign_stays():
    model, program = wired(
        lambda s, x: s.b(torch.tanh(s.a(x))), (torch.randn(40, 3),), a=nn.Linear(3, 4), b=nn.Linear(4, 2)
    )
    with torch.no_grad():
        model.a.weight[1] *= 0.001
        model.a.bias[1] = 3.0  # always close to one
        model.a.weight[2] *= 1000.0  # one or minus one: only its absolute value never changes
    pruned = sp.run(program, ["channel-prune:sparsity=0.25,criterion=output-variance"]).program
    assert (~pruned.masks["a.weight"]).any(1).tolist() == [False, True, False, False]
