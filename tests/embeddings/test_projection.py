"""Parameters that move in a random subspace alone."""

import math

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.embedding import folded
from sparsify.embeddings.projection import projection
from sparsify.errors import PassError
from sparsify.kernels.orthogonal import orthogonal
from sparsify.verify import outputs

NAMES = ["0.weight", "0.bias", "2.weight"]  # 60 + 6 + 18 values


@pytest.fixture
def program():
    torch.manual_seed(0)
    return sp.capture(nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 3)), (torch.randn(2, 10),))


def at(program, name, value):
    with torch.no_grad():
        program.parameters[name].copy_(value)
    return folded(program).parameters


def test_at_zero_it_is_the_function_that_it_was(program):
    for shared in (True, False):
        after = projection(program, NAMES, 7, shared=shared)
        assert torch.equal(outputs(after)[0], outputs(program)[0])
        assert sum(value.numel() for value in after.parameters.values()) == 7 + 3


def test_all_parameters_move_along_one_matrix(program):
    after = projection(program, NAMES, 7, seed=5)
    step = torch.randn(7)
    moved = at(after, "coordinates", step)
    path = torch.cat([(moved[name] - program.parameters[name]).flatten() for name in NAMES])
    expected = math.sqrt(84 / 7) * orthogonal(step, torch.tensor(5), 0, 84)
    torch.testing.assert_close(path.detach(), expected, atol=1e-6, rtol=0)
    count = sum(str(node.target).startswith("sparsify.orthogonal") for node in after.graph.nodes)
    assert count == 1


def test_each_layer_can_have_its_own(program):
    after = projection(program, NAMES, 12, shared=False)
    sizes = {name: len(value) for name, value in after.parameters.items() if name.endswith("coordinates")}
    assert sizes == {"0.weight_coordinates": 8, "0.bias_coordinates": 1, "2.weight_coordinates": 3}
    moved = at(after, "2.weight_coordinates", torch.ones(3))
    assert torch.equal(moved["0.weight"], program.parameters["0.weight"])
    assert not torch.equal(moved["2.weight"], program.parameters["2.weight"])


def test_gradients_are_those_of_the_parameters_in_the_subspace(program):
    after = projection(program, NAMES, 7, seed=5)
    grads = []
    for each in (program, after):
        module = each.module(training=True)
        module(program.example.args[0]).square().sum().backward()
        grads.append(dict(module.named_parameters()))
    whole = torch.cat([grads[0][name].grad.flatten() for name in NAMES])
    expected = math.sqrt(84 / 7) * orthogonal(whole, torch.tensor(5), 0, 7, True)
    torch.testing.assert_close(grads[1]["coordinates"].grad, expected, atol=1e-5, rtol=1e-5)


def test_too_many_or_too_few_coordinates_are_refused(program):
    with pytest.raises(PassError, match="dimension=85 is not between 1 and 84"):
        projection(program, NAMES, 85)
    with pytest.raises(PassError, match="dimension=2 is not between 3 and 84"):
        projection(program, NAMES, 2, shared=False)
