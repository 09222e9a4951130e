import torch
from helpers.residual import wired
from helpers.stats import channel_stats
from torch import nn

import sparsify as sp
from sparsify.criteria.nisp import Nisp


def test_the_score_is_the_importance():
    assert Nisp().channel(channel_stats(2, response_importance=[0.5, 3.0])).tolist() == [0.5, 3.0]


def test_a_channel_whose_readers_are_unread_goes_first_however_large_its_weights():
    model, program = wired(
        lambda s, x: s.c(torch.relu(s.b(torch.relu(s.a(x))))), (torch.randn(2, 3),),
        a=nn.Linear(3, 4), b=nn.Linear(4, 2), c=nn.Linear(2, 2),
    )  # fmt: skip
    with torch.no_grad():
        model.b.weight.copy_(torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 99.0, 0.0]]))
        model.a.weight[2] = 99.0
        model.c.weight[:, 1] = 1e-6  # what the second unit of b says is hardly read
    pruned = sp.run(program, ["channel-prune:sparsity=0.25,criterion=nisp"]).program
    assert (~pruned.masks["a.weight"]).any(1).tolist() == [False, False, True, False]
