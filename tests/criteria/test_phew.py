import itertools

import pytest
import torch
from helpers.stats import measure, weight_stats
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.criteria.phew import Phew
from sparsify.demo_net import digits_resnet
from sparsify.errors import PassError
from sparsify.layers import layers


def test_first_visits_come_before_magnitude():
    scores = Phew().weight(weight_stats([[4.0, -8.0], [2.0, 0.0]], walks=[[0.0, 0.0], [3.0, 1.0]]))
    assert scores.tolist() == [[0.25, 0.5], [3.125, 1.0]]


def scored(program, **options):
    measured = measure(program, Phew.needs, **options)
    names = {layer.parameter for layer in layers(program)}
    return {name: Phew().weight(measured.of_weight(name)) for name in names}


def test_whatever_is_kept_is_connected():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 40), nn.ReLU(), nn.Linear(40, 10))
    scores = scored(sp.capture(model, (torch.randn(2, 20),)))
    flat = torch.cat([score.flatten() for score in scores.values()])
    for density in (0.02, 0.05, 0.1):
        least = flat.topk(int(density * len(flat))).values[-1].floor()
        kept = [scores[f"{index}.weight"] >= least for index in (0, 2, 4)]  # whole walks
        assert 0.8 * density < sum(int(mask.sum()) for mask in kept) / len(flat) < 1.2 * density
        for before, after in itertools.pairwise(kept):
            assert torch.equal(before.any(1), after.any(0))


def test_magnitude_alone_would_cut_paths():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 10))
    with torch.no_grad():
        model[2].weight.mul_(0.01)
    scores = scored(sp.capture(model, (torch.randn(2, 20),)))
    kept = [scores["0.weight"], scores["2.weight"]]
    least = torch.cat([score.flatten() for score in kept]).topk(60).values[-1].floor()
    assert all(bool((score >= least).any()) for score in kept)


def test_every_layer_of_a_transformer_keeps_something():
    model, args, kwargs = FAMILIES["bert"]()
    scores = scored(sp.capture(model, args, kwargs))
    least = torch.cat([score.flatten() for score in scores.values()]).quantile(0.9)
    assert all(bool((score > least).any()) for score in scores.values())


def test_no_layer_collapses_where_magnitude_would_empty_some():
    program = sp.capture(digits_resnet(), (torch.randn(2, 1, 8, 8),))
    pruned = sp.run(program, ["weight-prune:sparsity=0.98,criterion=phew,scope=global"])
    assert all(bool(mask.any()) for mask in pruned.program.masks.values())
    with pytest.raises(PassError, match="would lose all weights"):
        sp.run(program, ["weight-prune:sparsity=0.98,criterion=magnitude,scope=global"])
