import torch
from helpers.sparse import stats

from sparsify.mask_updates.set import Set


def test_the_smallest_third_goes_and_grows_anywhere():
    mask = torch.tensor([True] * 10 + [False] * 20)
    weight = torch.where(mask, torch.arange(30.0) - 5.5, 0.0)  # magnitudes 5.5, 4.5, ... 0.5, 0.5, ... 3.5
    rule = Set(every=10)
    found = rule.masks(stats(mask, weight))["w"]
    assert int(found.sum()) == 10
    gone = (mask & ~found).nonzero().flatten().tolist()
    assert set(gone) <= {5, 6, 4, 7} | {4, 5, 6}
    assert 1 <= len(gone) <= 3
    places = {tuple(rule.masks(stats(mask, weight, seed=seed))["w"].nonzero().flatten().tolist()) for seed in range(9)}
    assert len(places) > 5


def test_the_share_stays_the_same_to_the_end():
    rule = Set(every=10)
    mask = torch.ones(4, dtype=torch.bool)
    assert {rule.share(stats(mask, step=step)) for step in (10, 500, 990)} == {0.3}
    assert rule.due(990, 1000)
    assert not rule.due(1000, 1000)
    assert not rule.due(0, 1000)
