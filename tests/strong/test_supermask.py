"""Supermask: coins while it is trained, the likely side in the end."""

import pytest
import torch

from sparsify.strong.supermask import Supermask

THETA = torch.full((100, 100), 2.0)


@pytest.mark.parametrize("odds", [0.1, 0.5, 0.9])
def test_coins_have_the_odds_of_the_scores(odds):
    torch.manual_seed(0)
    scores = torch.full((100, 100), odds).logit().requires_grad_()
    made = Supermask().weight(THETA, scores)
    assert set(made.unique().tolist()) == {0.0, 2.0}
    assert float((made > 0).float().mean()) == pytest.approx(odds, abs=0.02)  # four deviations of 10,000 coins
    assert not torch.equal(made, Supermask().weight(THETA, scores))
    made.sum().backward()
    assert torch.allclose(scores.grad, torch.tensor(2 * odds * (1 - odds)))


def test_without_gradients_the_mask_is_that_of_the_end():
    scores = torch.tensor([-1.0, 1.0, 0.5, 3.0])
    theta = torch.tensor([1.0, 2.0, 3.0, 4.0])
    with torch.no_grad():
        assert Supermask().weight(theta, scores).tolist() == [0.0, 2.0, 3.0, 4.0]
        assert Supermask(sparsity=0.75).weight(theta, scores).tolist() == [0.0, 0.0, 0.0, 4.0]
    assert Supermask().result(theta, scores)[1].tolist() == [False, True, True, True]


def test_what_is_kept_is_scaled_if_asked():
    scores = torch.tensor([-1.0, 1.0, -0.5, -3.0])
    weight, mask = Supermask(rescale=True).result(torch.ones(4), scores)
    assert weight.tolist() == [4.0] * 4
    assert int(mask.sum()) == 1
