"""ridge-head: the weights of the normal equations, on the features that are there."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.tasks.digits import Digits


def network(bias=True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10, bias=bias))
    return sp.capture(model, Digits().example()[0])


def features(program):
    batches = list(Digits().batches("train"))
    x, y = torch.cat([x for x, _ in batches]).flatten(1), torch.cat([y for _, y in batches])
    return F.linear(x, program.parameters["1.weight"], program.parameters["1.bias"]).relu().detach().double(), y


@pytest.mark.parametrize("bias", [True, False])
def test_the_weights_solve_the_normal_equations(bias):
    program = network(bias)
    result = sp.run(program, ["ridge-head:damping=0.01"], Digits())
    x, labels = features(program)
    y = F.one_hot(labels, 10).double()
    centre = x.mean(0) if bias else torch.zeros(40, dtype=torch.float64)
    gram = (x - centre).T @ (x - centre) / len(x)
    system = gram + 0.01 * gram.diagonal().mean() * torch.eye(40)
    expected = torch.linalg.solve(system, (x - centre).T @ (y - (y.mean(0) if bias else 0)) / len(x)).T
    assert torch.allclose(result.program.parameters["3.weight"].double(), expected, atol=1e-6)
    if bias:
        assert torch.allclose(result.program.parameters["3.bias"].double(), y.mean(0) - expected @ centre, atol=1e-6)
    assert torch.equal(result.program.parameters["1.weight"], program.parameters["1.weight"])
    assert result.report["score"] > 0.85
    assert result.report["passes"][0]["done"] == f"3.weight is fitted to the labels of {len(x):,} examples"


def test_features_that_never_differ_are_no_trouble():
    program = network()
    with torch.no_grad():
        program.parameters["1.bias"][:5] = -100  # dead
    result = sp.run(program, ["ridge-head:damping=0"], Digits())
    assert result.report["score"] > 0.8
    assert float(result.program.parameters["3.weight"].abs().max()) < 100


def test_refusals():
    with pytest.raises(PassError, match=r"^ridge-head: Labels are needed"):
        sp.run(network(), ["ridge-head"])
    with pytest.raises(UsageError, match="negative"):
        sp.run(network(), ["ridge-head:damping=-1"])
    with pytest.raises(UsageError, match="less than 1"):
        sp.run(network(), ["ridge-head:batches=0"])
    small = sp.capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), Digits().example()[0])
    with pytest.raises(UsageError, match="cannot compute the loss: IndexError: Target 7 is out of bounds"):
        sp.run(small, ["ridge-head"], Digits())
    with pytest.raises(PassError, match="masked or frozen"):
        sp.run(network(), ["freeze:sparsity=0.5", "ridge-head"], Digits())
