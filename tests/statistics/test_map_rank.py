import math

import pytest
import torch
from helpers.given import parts, signals
from helpers.residual import resnet, wired
from helpers.stats import measure
from torch import nn

from sparsify.errors import PassError
from sparsify.statistics import map_rank


def ranks(program, task=None, **options):
    return measure(program, ["map-rank"], task, **options).found["map-rank"]


def test_it_is_the_mean_rank_of_what_the_next_layer_reads():
    model, program = resnet()
    block = model.layer1[0]
    with torch.no_grad():
        seen = block.act(block.bn1(block.conv1(model.act(model.conv1(program.example.args[0])))))
    expected = torch.linalg.matrix_rank(seen).double().mean(0)
    inner = [signal for signal in signals(program) if signal.key == "layer1.0.conv1"]
    assert torch.equal(ranks(program, signals=inner)["layer1.0.conv1"], expected)
    assert len(set(expected.tolist())) > 1


def test_maps_of_more_dimensions_are_matrices_of_the_first_by_the_others():
    x = torch.randn(3, 1, 4, 2, 3)
    model, program = wired(lambda s, x: s.b(s.a(x)), (x,), a=nn.Conv3d(1, 5, 1), b=nn.Conv3d(5, 2, 1))
    with torch.no_grad():
        expected = torch.linalg.matrix_rank(model.a(x).flatten(3)).double().mean(0)
    assert torch.equal(ranks(program, signals=signals(program))["a"], expected)


def test_batches_add_up():
    _, program = resnet()
    inner = [signal for signal in signals(program) if ".conv1" in signal.key]
    one, other = (ranks(program, task, signals=inner) for task in parts(torch.randn(6, 3, 8, 8), count=3))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_no_more_examples_are_ranked_than_are_needed(monkeypatch):
    _, program = resnet()
    inner = [signal for signal in signals(program) if signal.key == "layer1.0.conv1"]
    x = torch.randn(6, 3, 8, 8)
    few = ranks(program, parts(x[:4])[1], signals=inner)
    monkeypatch.setattr(map_rank, "EXAMPLES", 4)
    for task in parts(x):
        assert torch.equal(ranks(program, task, signals=inner)["layer1.0.conv1"], few["layer1.0.conv1"])


def pooled(x):
    return wired(
        lambda s, x: s.c(torch.relu(s.b(torch.relu(s.a(x)))).mean((2, 3))), (x,),
        a=nn.Conv2d(2, 4, 3), b=nn.Conv2d(4, 3, 1), c=nn.Linear(3, 2),
    )  # fmt: skip


def test_channels_without_a_map_are_refused_by_name():
    _, program = pooled(torch.randn(2, 2, 5, 5))
    with pytest.raises(PassError, match=r"as of images, and there are none of b.*protect=b"):
        ranks(program, signals=signals(program))


def test_values_without_a_map_do_not_count_beside_those_with_one():
    def wire(s, x):
        y = s.a(x)
        return s.b(y).flatten(1) + s.c(y.mean((2, 3)))

    x = torch.randn(2, 1, 4, 4)
    model, program = wired(wire, (x,), a=nn.Conv2d(1, 3, 1), b=nn.Conv2d(3, 2, 4), c=nn.Linear(3, 2))
    with torch.no_grad():
        expected = torch.linalg.matrix_rank(model.a(x)).double().mean(0)
    assert torch.equal(ranks(program, signals=signals(program))["a"], expected)


def test_maps_that_are_not_finite_are_refused():
    _, program = pooled(torch.full((2, 2, 5, 5), math.inf))
    with pytest.raises(PassError, match=r"The feature maps of a are not finite\."):
        ranks(program, signals=signals(program))
