import torch
from helpers.sparse import run, stats

from sparsify.mask_updates import Stats
from sparsify.mask_updates.snfs import Snfs


def test_momentum_is_the_mean_of_dense_gradients():
    rule, mask = Snfs(beta=0.5), torch.tensor([True, False])
    for value in (4.0, 8.0):
        rule.observe(stats(mask, gradient=torch.tensor([value, -value])))
    assert torch.equal(rule.state["w"], torch.tensor([5.0, -5.0]))  # 4·½·½ + 8·½


def test_a_layer_with_more_momentum_gets_more():
    rule = Snfs(alpha=0.5)
    half = torch.tensor([True, True, True, True, False, False, False, False])
    rule.state = {"a": torch.full((8,), 3.0), "b": torch.full((8,), 1.0)}
    weights = {name: torch.where(half, torch.arange(1.0, 9.0), 0.0) for name in "ab"}
    given = Stats(0, 100, dict.fromkeys("ab", half), weights, weights, 0.1, torch.Generator())
    found = rule.masks(given)
    assert (int(found["a"].sum()), int(found["b"].sum())) == (5, 3)  # of 4 dropped 3 and 1 come back


def test_layers_trade_weights_in_a_training():
    trained = run("snfs")
    layers = {tuple(item["layers"].values()) for item in trained.exchanges}
    assert len(layers) > 1
