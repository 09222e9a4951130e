import pytest
import torch
from helpers.sparse import run, started, stats

from sparsify.mask_updates.gmp import Gmp


def test_the_share_follows_the_cubic_and_the_smallest_go():
    goal = torch.tensor([True] * 20 + [False] * 80)
    rule, mask = started(Gmp(every=100, until=0.8), goal)
    assert bool(mask.all())
    weight = torch.arange(100.0)
    for step in (100, 400, 800):
        mask = rule.masks(stats(mask, weight, step=step, steps=1000))["w"]
        gone = round(80 * (1 - (1 - step / 800) ** 3))
        assert mask.tolist() == [index >= gone for index in range(100)]


def test_it_is_due_at_its_end_too():
    rule = Gmp(every=300, until=0.75)
    assert [step for step in range(1001) if rule.due(step, 1000)] == [0, 300, 600, 750]


def test_a_training_is_dense_first_and_ends_where_it_should():
    trained = run("gmp")
    densities = [item["density"] for item in trained.exchanges]
    assert densities == sorted(densities, reverse=True)
    assert densities[0] > 0.5
    assert densities[-1] == pytest.approx(0.2, abs=0.001)
    assert trained.itop == 1
    assert Gmp.dense
