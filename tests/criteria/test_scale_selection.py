import pytest
import torch
from helpers.given import parts
from helpers.residual import mlp, wired
from helpers.stats import block_stats, channel_stats
from torch import nn

import sparsify as sp
from sparsify.criteria.scale_selection import ScaleSelection
from sparsify.errors import PassError


def test_the_score_is_the_absolute_scale():
    stats = channel_stats(3, trained_scales=[-2.0, 0.0, 0.5])
    assert ScaleSelection().channel(stats).tolist() == [2.0, 0.0, 0.5]
    assert ScaleSelection().block(block_stats(trained_scales=[-0.25])) == 0.25


def classes():
    """Examples whose first feature is the class; the second is noise."""
    y = torch.arange(40) % 2
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * 0.3
    x[:, 0] += 2 * y - 1
    return x, parts(x, y)[0]


def test_a_loud_channel_that_only_disturbs_goes_first():
    x, task = classes()
    model, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (x[:2],), a=nn.Linear(2, 2), b=nn.Linear(2, 2))
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 9.0]]))
        model.b.weight.copy_(torch.tensor([[-1.0, 3.0], [1.0, -3.0]]))
    pruned = sp.run(program, ["channel-prune:sparsity=0.5,criterion=scale-selection"], task=task).program
    assert (~pruned.masks["a.weight"]).any(1).tolist() == [False, True]


def test_a_whole_block_that_adds_nothing_is_removed():
    x, task = classes()
    model, program = wired(
        lambda s, x: s.head((z := (y := s.stem(x)) + s.b(y)) + s.c(z)), (x[:2],),
        stem=nn.Linear(2, 2), b=nn.Linear(2, 2), c=nn.Linear(2, 2), head=nn.Linear(2, 2),
    )  # fmt: skip
    with torch.no_grad():
        for layer, scale in ((model.stem, 1.0), (model.b, 0.5), (model.c, 0.0), (model.head, 1.0)):
            layer.weight.copy_(scale * torch.eye(2))
            layer.bias.zero_()
        model.head.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    after = sp.run(program, ["layer-prune:count=1,criterion=scale-selection"], task=task).program
    assert "c.weight" not in after.parameters
    assert "b.weight" in after.parameters


def test_a_loss_is_needed():
    with pytest.raises(PassError, match="scale-selection needs a loss"):
        sp.run(mlp()[1], ["layer-prune:criterion=scale-selection"])
