"""reconstruct: inputs far from zero, and programs of which too little is known."""

import pytest
import torch
from helpers.models import Net
from torch import nn

import sparsify as sp
from sparsify.demo_net import digits_resnet
from sparsify.errors import PassError
from sparsify.tasks.digits import Digits

TASK = Digits()


def done(program, *specs):
    result = sp.run(program, specs)
    return result.program, result.report["passes"]


@pytest.mark.parametrize("options", ["", ",bias=no", ",method=obs", ",method=obs,bias=no", ",method=bias"])
@pytest.mark.parametrize("far", ["all", "one"])
def test_inputs_whose_mean_is_far_above_their_spread(far, options):
    torch.manual_seed(0)
    x = torch.randn(200, 12)
    x[:, : 12 if far == "all" else 1] += 3000.0
    program = sp.capture(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), (x,))
    program, (_, record) = done(program, "weight-prune:sparsity=0.5,scope=layer", f"reconstruct:batches=1{options}")
    assert all(bool(torch.isfinite(value).all()) for value in program.parameters.values())
    assert record["output_error"]["after"] < record["output_error"]["before"]


def test_what_cannot_be_known_any_more_is_refused():
    network = sp.capture(digits_resnet(), (torch.randn(2, 1, 8, 8),))
    passes = ["weight-prune:sparsity=0.8", "recalibrate-norm:batches=1", "reconstruct:batches=1"]
    with pytest.raises(PassError, match="Put reconstruct before it"):
        sp.run(network, passes, task=TASK)
    sp.run(network, [passes[1], passes[0], passes[2]], task=TASK)  # before pruning it does no harm
    with pytest.raises(PassError, match="what the layers gave before pruning is not known any more"):
        sp.run(network, [passes[0], passes[2], passes[2]], task=TASK)


def test_a_weight_that_is_read_in_two_directions_stays():
    torch.manual_seed(0)
    a, b = nn.Linear(16, 8, bias=False), nn.Linear(16, 16)
    model = Net(lambda s, x: torch.relu(s.a(s.b(x))) @ s.a.weight, a=a, b=b)
    program = sp.run(sp.capture(model, (torch.randn(20, 16),)), ["weight-prune:sparsity=0.5,scope=layer"]).program
    after, (record,) = done(program, "reconstruct")
    assert record["left"] == ["a.weight"]
    assert "1 masked weight stayed: a.weight" in record["done"]
    assert {n for n, v in program.parameters.items() if not torch.equal(v, after.parameters[n])} == {
        "b.weight",
        "b.bias",
    }


def test_obs_sees_inputs_around_their_means():
    torch.manual_seed(0)
    x = torch.randn(300, 12) @ torch.randn(12, 12) + 20
    program = sp.capture(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), (x,))
    errors = {}
    for method in ("obs", "bias"):
        _, (_, record) = done(program, "weight-prune:pattern=2:4", f"reconstruct:method={method}")
        errors[method] = record["output_error"]["after"]
    assert errors["obs"] < errors["bias"]
