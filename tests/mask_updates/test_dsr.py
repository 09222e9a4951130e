import pytest
import torch
from helpers.sparse import run, stats

from sparsify.mask_updates.dsr import Dsr


@pytest.mark.parametrize(("threshold", "after"), [(0.05, 0.1), (0.1001, 0.1001), (0.7, 0.35)])
def test_the_threshold_adapts(threshold, after):
    mask = torch.ones(100, dtype=torch.bool)
    rule = Dsr(alpha=0.1)
    rule.state["threshold"] = torch.tensor(threshold, dtype=torch.float64)
    rule.masks(stats(mask, torch.arange(1.0, 101.0) / 100))
    assert float(rule.state["threshold"]) == pytest.approx(after)


def test_what_is_below_the_threshold_goes():
    mask = torch.tensor([True, True, True, False, False, False])
    rule = Dsr()
    rule.state["threshold"] = torch.tensor(0.5, dtype=torch.float64)
    found = rule.masks(stats(mask, torch.tensor([0.4, -0.6, 0.5, 0, 0, 0])))["w"]
    assert found[1:3].all()
    assert int(found.sum()) == 3


def test_layers_trade_weights_in_a_training():
    assert len({tuple(item["layers"].values()) for item in run("dsr", steps="80it").exchanges}) > 1
