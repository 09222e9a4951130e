import itertools

import torch
from helpers.residual import resnet
from helpers.stats import measure
from helpers.trials import ORDER, Imitation, known_uses, of_channels, of_groups
from torch import nn

import sparsify as sp
from sparsify.statistics.filter_search import FilterSearch, _Search


def test_channels_are_ranked_by_their_use_to_the_next_layer():
    model, program = known_uses()
    found = of_channels(program, "filter-search", Imitation(model))
    assert set(found.argsort()[:3].tolist()) == set(ORDER[:3])  # of three that hardly matter chance says who is last
    assert found[3] > found[2] >= 2  # the first half is set aside two rounds before the end


def test_damage_is_the_relative_change_of_the_reading_layer_alone():
    """The mean over all halves of what the damages of whole networks are, worked out by hand."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    program = sp.capture(model, (torch.randn(6, 3),))
    found = of_groups(program, ["filter-search"]).found["filter-search"]["0"]
    with torch.no_grad():
        x = torch.relu(model[0](program.example.args[0]))
        whole = model[2](x)
        damage = {}
        for half in itertools.combinations(range(4), 2):
            closed = x.clone()
            closed[:, half] = 0
            damage[half] = float((whole - model[2](closed)).square().sum() / whole.square().sum())
    mean = torch.tensor([sum(d for half, d in damage.items() if i in half) / 3 for i in range(4)])
    aside = found >= 2
    assert set(found.argsort()[-2:].tolist()) == set(mean.argsort()[-2:].tolist())
    assert int(aside.sum()) == 2
    d = found[aside] - 2
    torch.testing.assert_close((d / (1 - d)).float(), mean[aside], rtol=0.35, atol=0)  # 8 random halves and their rests


def test_every_candidate_is_closed_equally_often():
    signal = type("Signal", (), {"key": "a", "size": 7, "places": []})()
    search = _Search(signal, 0)
    assert search._halves.sum(0).tolist() == [8] * 7


def test_all_groups_of_a_residual_network_are_searched():
    _, program = resnet()
    found = of_groups(program, ["filter-search"]).found["filter-search"]
    assert len(found) >= 5
    for value in found.values():
        assert torch.isfinite(value).all()
        assert len(value.unique()) == len(value)


def test_a_convolution_that_reads_nothing_of_a_channel_sets_it_aside_last():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        model[2].weight[:, 4] = 0
    found = of_groups(sp.capture(model, (torch.randn(3, 1, 8, 8),)), ["filter-search"]).found["filter-search"]["0"]
    assert found.argmin() == 4


def test_the_data_is_gone_through_once_for_each_round():
    class Counting(Imitation):
        asked = 0

        def batches(self, split, *, seed=0):
            for batch in super().batches(split, seed=seed):
                self.asked += 1
                yield batch

    model, program = known_uses()
    task = Counting(model)
    of_channels(program, "filter-search", task, batches=3)
    assert task.asked == 3 * 2  # 5 candidates, 2, 1


def test_without_groups_nothing_is_measured():
    assert FilterSearch.data == "inputs"
    _, program = resnet()
    assert measure(program, ["filter-search"], signals=[]).found["filter-search"] == {}
