import math

import pytest
import torch
from helpers.sparse import Clusters, program_of, run, stats

import sparsify as sp
from sparsify.mask_updates.rigl import Rigl
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions


def test_the_smallest_go_and_the_largest_gradients_come():
    mask = torch.tensor([True, True, True, True, False, False, False, False])
    weight = torch.tensor([4.0, -1.0, 2.0, -3.0, 0, 0, 0, 0])
    gradient = torch.tensor([9.0, 0.1, 9.0, 9.0, 0.2, -7.0, 0.3, 6.0])
    found = Rigl(alpha=0.5).masks(stats(mask, weight, gradient, step=0, steps=1000))["w"]
    assert found.tolist() == [True, False, False, True, False, True, False, True] or found.tolist() == [
        True, False, True, True, False, True, False, False
    ]  # fmt: skip
    assert int(found.sum()) == 4


@pytest.mark.parametrize("step", [0, 100, 375, 700])
def test_the_share_falls_like_a_cosine(step):
    rule = Rigl(alpha=0.3, until=0.75)
    expected = 0.15 * (1 + math.cos(math.pi * step / 750))
    assert rule.share(stats(torch.ones(1, dtype=torch.bool), step=step, steps=1000)) == pytest.approx(expected)


def test_it_is_due_every_so_many_steps_until_its_end():
    rule = Rigl(every=100, until=0.75)
    assert [step for step in range(1001) if rule.due(step, 1000)] == [100, 200, 300, 400, 500, 600, 700]


def test_an_update_takes_the_place_of_a_step():
    """With an update at its last step, a run leaves everything that has no mask as the step before left it."""
    program = sp.run(program_of(), ["weight-prune:sparsity=0.8,criterion=random"]).program
    options = TrainOptions(steps="5it")
    whole = train(program, Clusters(), options, rule=Rigl(every=4, until=1.0))
    short = train(program, Clusters(), options, span=(0, 4))
    assert [item["step"] for item in whole.exchanges] == [4]
    assert whole.losses[:4] == short.losses
    for name in ("0.bias", "2.bias", "4.bias"):
        assert torch.equal(whole.program.parameters[name], short.program.parameters[name])


def test_layers_keep_their_shares():
    trained = run("rigl")
    layers = {tuple(item["layers"].values()) for item in trained.exchanges}
    assert len(layers) == 1
