import torch
from helpers.sparse import run, started, stats

from sparsify.mask_updates.static import Static


def test_masks_never_change():
    mask = torch.tensor([[True, False, True]])
    rule, first = started(Static(), mask)
    assert first is mask
    assert not any(rule.due(step, 100) for step in range(101))
    assert rule.masks(stats(mask))["w"] is mask


def test_a_static_training_exchanges_nothing():
    trained = run("static")
    assert trained.exchanges == ()
    assert trained.itop == sum(int(m.sum()) for m in trained.program.masks.values()) / (12 * 32 + 32 * 16 + 16 * 4)
