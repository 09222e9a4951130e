import copy

import pytest
import torch
from helpers.command import small_program
from torch import nn

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.evaluation import likeness
from sparsify.evaluation.cka import linear_cka
from sparsify.evaluation.likeness import likenesses
from sparsify.task import resolve


class Net(nn.Module):
    def __init__(self, hidden=6):
        super().__init__()
        self.first, self.second = nn.Linear(5, hidden), nn.Linear(hidden, 3)

    def forward(self, x):
        return torch.softmax(self.second(torch.relu(self.first(x))), 1)


def task(n=60):
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(0))
    data = [(part, torch.zeros(len(part))) for part in x.split(25)]
    return sp.LoaderTask(data, data, lambda model, batch: model(batch[0]).sum()), x


def pair(hidden=6):
    torch.manual_seed(0)
    models = Net(), Net(hidden)
    return models, [sp.capture(model.eval(), (torch.randn(4, 5),)) for model in models]


def test_it_is_the_cka_of_what_the_modules_give_over_all_batches():
    models, (one, other) = pair(hidden=4)  # of another width
    data, x = task()
    (found,) = likenesses(one, [other], data)
    assert [place.place for place in found] == ["first", "second", "output"]
    with torch.no_grad():
        first = [model.first(x) for model in models]
        second = [model.second(torch.relu(value)) for model, value in zip(models, first, strict=True)]
        output = [torch.softmax(value, 1) for value in second]
    for place, values in zip(found, (first, second, output), strict=True):
        assert place.cka == pytest.approx(linear_cka(*values), abs=1e-6)  # outputs are float32
        assert place.debiased == pytest.approx(linear_cka(*values, debiased=True), abs=1e-6)
        assert (place.examples, place.exact) == (60, True)
    assert found[0].features == (6, 4)
    assert found[0].as_dict()["features"] == [6, 4]
    assert found[0].cka < 0.95


def test_a_model_is_like_itself_and_its_outputs_alone_are_fewer():
    _, (one, _) = pair()
    data, _ = task()
    found = likenesses(one, [one, one], data)
    for places in found:
        for place in places:
            assert place.cka == pytest.approx(1, abs=1e-12)
            assert place.debiased == pytest.approx(1, abs=1e-12)
    assert [place.place for place in likenesses(one, [one], data, inside=False)[0]] == ["output"]


def test_wide_layers_are_compared_by_batches(monkeypatch):
    models, (one, other) = pair()
    data, x = task(n=50)
    exact = likenesses(one, [other], data)[0]
    monkeypatch.setattr(likeness, "_WIDEST", 4)
    found = likenesses(one, [other], data)[0]
    assert [place.exact for place in found] == [False, True, True]
    assert found[0].cka is None
    assert found[0].examples == 50
    assert found[0].debiased == pytest.approx(exact[0].debiased, abs=0.1)  # of two batches of 25
    assert found[1] == exact[1]
    with torch.no_grad():
        values = [[model.first(part) for part in x.split(25)] for model in models]
    from sparsify.evaluation.cka import debiased_hsic, gram

    sums = [
        sum(debiased_hsic(gram(a), gram(b)) for a, b in zip(one, other, strict=True))
        for one, other in ((values[0], values[1]), (values[0], values[0]), (values[1], values[1]))
    ]
    assert found[0].debiased == pytest.approx(sums[0] / (sums[1] * sums[2]) ** 0.5, abs=1e-6)


def test_blocks_that_are_gone_are_left_out_and_images_work():
    program = small_program()
    small = sp.run(program, ["layer-prune:blocks=layer2.1"]).program
    (found,) = likenesses(program, [small], resolve("digits"))
    places = {place.place: place for place in found}
    assert "layer2.1.conv1" not in places
    assert {"conv1", "layer1.0.conv1", "fc", "output"} <= places.keys()
    assert places["conv1"].cka == pytest.approx(1)
    assert places["conv1"].features == (4 * 64, 4 * 64)  # all positions of all channels
    assert places["output"].cka < 1


def test_an_output_that_does_not_vary_has_no_cka():
    models, (one, _) = pair()
    dead = copy.deepcopy(models[0])
    with torch.no_grad():
        dead.second.weight.zero_()
    (found,) = likenesses(one, [sp.capture(dead, (torch.randn(4, 5),))], task()[0])
    assert (found[-1].cka, found[-1].debiased) == (None, None)


def test_other_numbers_of_rows_are_refused():
    class Double(Net):
        def forward(self, x):
            return torch.cat([super().forward(x)] * 2)

    _, (one, _) = pair()
    with pytest.raises(UsageError, match="At output the models give 25 and 50 rows"):
        likenesses(one, [sp.capture(Double().eval(), (torch.randn(4, 5),))], task()[0], inside=False)
