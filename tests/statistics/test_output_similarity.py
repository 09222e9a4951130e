import copy

import pytest
import torch
from helpers.regression import Regression
from helpers.residual import lines, mlp, wired
from helpers.stats import measure
from helpers.trials import of_groups
from torch import nn

from sparsify.blocks import blocks
from sparsify.errors import PassError
from sparsify.statistics import output_similarity


def similarity(whole, other):
    """Linear CKA as it is defined by Gram matrices of the examples."""
    x, y = (value.double() - value.double().mean(0) for value in (whole, other))
    a, b = x @ x.T, y @ y.T
    return float((a * b).sum() / (a.norm() * b.norm()))


def test_it_is_linear_cka_over_all_batches_at_once():
    model, program = mlp()
    task = Regression(count=3, outputs=2)
    found = of_groups(program, ["output-similarity"], task).found["output-similarity"]["blocks.0.0"]
    x = torch.cat([x for x, _ in task.batches("train")])
    with torch.no_grad():
        for index in range(6):
            other = copy.deepcopy(model)
            other.blocks[0][2].weight[:, index] = 0
            assert 1 - float(found[index]) == pytest.approx(1 - similarity(model(x), other(x)), rel=1e-3, abs=1e-9)


def test_a_large_mean_of_the_output_does_not_hide_the_difference():
    model, program = mlp()
    with torch.no_grad():
        model.head.bias.fill_(300.0)
    task = Regression()
    found = of_groups(program, ["output-similarity"], task).found["output-similarity"]["stem"]
    x = torch.cat([x for x, _ in task.batches("train")])
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.stem.weight[1], other.stem.bias[1] = 0, 0
        expected = similarity(model(x), other(x))
    assert found.shape == (4,)
    assert found.max() < 1
    assert 0 < expected < 1


def test_a_scaled_output_is_the_same_output():
    moments = output_similarity._Moments()
    rows = torch.randn(20, 4, dtype=torch.float64)
    moments.add(rows[:7], 3 * rows[:7])
    moments.add(rows[7:], 3 * rows[7:])
    assert moments.similarity() == pytest.approx(1)


def test_a_block_that_does_nothing_changes_nothing():
    model, program = mlp()
    with torch.no_grad():
        for parameter in model.blocks[1][2].parameters():
            parameter.zero_()
    found = measure(program, ["output-similarity"], Regression(), blocks=blocks(program)).found["output-similarity"]
    assert float(found["blocks.1"]) == pytest.approx(1, abs=1e-12)
    assert float(found["blocks.0"]) < 1


def test_moments_in_parts_are_the_same(monkeypatch):
    _, program = mlp()
    whole = of_groups(program, ["output-similarity"], Regression()).found["output-similarity"]
    monkeypatch.setattr(output_similarity, "_BUDGET", 1)
    for key, value in of_groups(program, ["output-similarity"], Regression()).found["output-similarity"].items():
        torch.testing.assert_close(value, whole[key])


def test_wide_outputs_are_projected():
    _, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (torch.randn(50, 3),), a=nn.Linear(3, 4),
                       b=nn.Linear(4, 700))  # fmt: skip
    model = program.module()
    found = of_groups(program, ["output-similarity"]).found["output-similarity"]["a"]
    x = program.example.args[0]
    with torch.no_grad():
        other = copy.deepcopy(model)
        other.b.weight[:, 1] = 0
        assert float(found[1]) == pytest.approx(similarity(model(x), other(x)), abs=0.05)


def test_an_output_that_is_constant_without_a_channel_is_not_similar():
    moments = output_similarity._Moments()
    moments.add(torch.randn(5, 2).double(), torch.ones(5, 2).double())
    assert moments.similarity() == 0


def test_one_example_is_not_enough():
    _, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (torch.randn(1, 4),), **lines(4, 2))
    with pytest.raises(PassError, match="cka needs several examples"):
        of_groups(program, ["output-similarity"])
