import itertools

import pytest
import torch
from helpers.residual import wired
from helpers.stats import measure
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.layers import layers
from sparsify.masking import masked
from sparsify.statistics.walks import WALKS


def chain(*widths, seed=0):
    torch.manual_seed(seed)
    steps = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)]
    model = nn.Sequential(*[part for step in steps for part in (step, nn.ReLU())][:-1])
    return model, sp.capture(model, (torch.randn(2, widths[0]),))


def walks(program, **options):
    return measure(program, ["walks"], **options).found["walks"]


def test_the_first_walks_are_complete_paths():
    _, program = chain(12, 30, 20, 5)
    found = list(walks(program).values())
    total = WALKS * 55
    for number in (1, 10, 100):
        kept = [value > total - number for value in found]
        for before, after in itertools.pairwise(kept):
            assert torch.equal(before.any(1), after.any(0))  # what has a way in has a way out
        assert all(1 <= int(mask.sum()) <= number for mask in kept)


def test_walks_go_by_magnitude():
    model, program = chain(1, 2, 1)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1000.0]]))
        model[2].weight.fill_(1.0)
    found = walks(program)
    assert found["0.weight"][1, 0] == WALKS * 3  # the very first forward walk
    assert found["0.weight"][1, 0] > found["0.weight"][0, 0]


def test_a_share_of_the_walks_is_that_of_the_magnitude(monkeypatch):
    """Weights of one unit are first visited at 1 / share on average."""
    model, program = chain(1, 3, 1)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.7], [0.2], [-0.1]]))
        model[2].weight.copy_(torch.tensor([[0.7, 0.2, 0.1]]))
    waits = [WALKS * 4 - walks(program, seed=seed)["0.weight"].flatten() + 1 for seed in range(60)]
    mean = torch.stack(waits).mean(0)
    torch.testing.assert_close(mean, torch.tensor([1 / 0.7, 5.0, 10.0]).double(), rtol=0.4, atol=0)


def test_a_weight_of_zero_or_a_masked_weight_is_never_walked():
    model, program = chain(4, 6, 3)
    with torch.no_grad():
        model[0].weight[2, 1] = 0
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[:, 4] = False
    found = walks(masked(program, {"2.weight": mask}))
    assert found["0.weight"][2, 1] == 0
    assert not found["2.weight"][:, 4].any()
    assert int((found["2.weight"] == 0).sum()) == 3


def test_what_leads_nowhere_ends_the_walk():
    model, program = chain(2, 3, 2)
    nn.init.zeros_(model[2].weight)
    found = walks(program)
    assert found["0.weight"].any()
    assert not found["2.weight"].any()


def test_both_directions_are_walked():
    _, program = chain(3, 4, 3)
    total = WALKS * 7
    first = {int(total - value) % 2 for value in walks(program)["0.weight"].flatten()}
    assert first == {0, 1}


def test_the_seed_decides():
    _, program = chain(4, 6, 3)
    assert torch.equal(walks(program, seed=1)["0.weight"], walks(program, seed=1)["0.weight"])
    assert not torch.equal(walks(program, seed=1)["0.weight"], walks(program, seed=2)["0.weight"])


def test_many_walks_in_portions_are_the_same_kind_of_walks(monkeypatch):
    _, program = chain(4, 6, 3)
    monkeypatch.setattr("sparsify.statistics.walks._TOGETHER", 7)
    found = list(walks(program).values())
    kept = [value > WALKS * 9 - 30 for value in found]
    assert torch.equal(kept[0].any(1), kept[1].any(0))


def test_a_shared_weight_has_the_first_visit_of_all_its_layers():
    _, program = wired(lambda s, x: s.a(torch.relu(s.a(x))), (torch.randn(2, 4),), a=nn.Linear(4, 4))
    assert walks(program).keys() == {"a.weight"}
    assert walks(program)["a.weight"].max() == WALKS * 8


@pytest.mark.parametrize("name", ["bert", "gpt2", "resnet", "regnet", "mixtral"])
def test_every_layer_of_a_family_is_visited(name):
    model, args, kwargs = FAMILIES[name]()
    program = sp.capture(model, args, kwargs)
    found = walks(program)
    assert {layer.parameter for layer in layers(program)} == found.keys()
    assert all(bool(value.any()) for value in found.values())
    assert all(value.shape == program.parameters[key].shape for key, value in found.items())
