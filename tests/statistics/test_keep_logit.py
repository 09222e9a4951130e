import torch
from helpers.trials import Imitation, known_uses, of_channels
from torch import nn

import sparsify as sp


def test_it_learns_to_keep_what_matters():
    model, program = known_uses()
    found = of_channels(program, "keep-logit", Imitation(model))
    assert found[3] > 0 > found[0]
    assert found.argmax() == 3


def test_one_of_two_duplicates_is_missed_more_than_a_dead_unit():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[1] = model[0].weight[0]
        model[0].bias[1] = model[0].bias[0]
        model[2].weight[:] = torch.tensor([[1.0, 1.0, 2.0, 0.0], [1.0, 1.0, -2.0, 0.0]])
    program = sp.capture(model, (torch.randn(3, 4),))
    found = of_channels(program, "keep-logit", Imitation(model, inputs=(4,)))
    assert found.argmin() == 3


def test_the_seed_decides():
    model, program = known_uses()

    def measured(seed):
        return of_channels(program, "keep-logit", Imitation(model), seed=seed)

    assert torch.equal(measured(1), measured(1))
    assert not torch.equal(measured(1), measured(2))


def test_a_layer_that_nobody_needs_gives_finite_logits():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    nn.init.zeros_(model[2].weight)
    found = of_channels(sp.capture(model, (torch.randn(3, 3),)), "keep-logit")
    assert torch.isfinite(found).all()
    assert found.mean() < 0  # the fewer the better
