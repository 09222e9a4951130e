import pytest
import torch
from helpers.given import parts
from helpers.residual import wired
from helpers.stats import block_stats, channel_stats
from torch import nn

import sparsify as sp
from sparsify.criteria.pls import Pls
from sparsify.errors import PassError, UsageError
from sparsify.pruning.choice import made
from sparsify.statistics.label_projection import COMPONENTS

VIP = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.5, 0.25]])


def test_the_score_is_vip_with_as_many_components_as_asked_for():
    stats = channel_stats(2, label_projection=VIP)
    assert Pls().channel(stats).tolist() == [2.0, 1.0]
    assert Pls(components=4).channel(stats).tolist() == [4.0, 0.25]
    assert Pls().block(block_stats(channels=stats)) == 1.5


@pytest.mark.parametrize("components", [0, COMPONENTS + 1])
def test_the_statistic_has_no_more_components(components):
    with pytest.raises(UsageError, match=f"pls: components={components} is not between 1 and {COMPONENTS}"):
        made(f"pls/components={components}")


def labelled():
    y = torch.arange(60) % 3
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    x[:, 0], x[:, 1] = x[:, 0] * 0.1 + (y == 1), x[:, 1] * 0.1 + (y == 2)
    model, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (x[:2],), a=nn.Linear(4, 4), b=nn.Linear(4, 3))
    with torch.no_grad():
        model.a.weight.copy_(torch.eye(4) * torch.tensor([0.1, 0.1, 5.0, 5.0]))  # the loud channels know nothing
        model.a.bias.zero_()
    return program, parts(x, y, count=3)[0]


def test_channels_that_know_the_label_stay():
    program, task = labelled()
    pruned = sp.run(program, ["channel-prune:sparsity=0.5,criterion=pls"], task=task).program
    assert (~pruned.masks["a.weight"]).any(1).tolist() == [False, False, True, True]


def test_a_task_without_labels_is_refused():
    program, task = labelled()

    class Unlabelled:
        name, batches, loss, score = task.name, task.batches, task.loss, task.score

    with pytest.raises(PassError, match=r"The criterion pls needs labels: give a task with labels\(batch\)"):
        sp.run(program, ["channel-prune:sparsity=0.5,criterion=pls"], task=Unlabelled())
