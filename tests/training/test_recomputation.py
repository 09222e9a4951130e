"""What is made again is not kept for the backward pass."""

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from sparsify.training.recomputation import Recomputation


class Saved:
    """Counts how often a weight is made, and the bytes that autograd keeps."""

    def __init__(self):
        self.made = 0
        self.recomputation = Recomputation()
        self.seed = torch.randn(6, 5)

    def weight(self):
        weight = self._weight().requires_grad_()
        self.recomputation.note(weight, self._weight)
        return weight

    def _weight(self):
        self.made += 1
        return 2 * self.seed


@pytest.fixture
def saved():
    torch.manual_seed(0)
    return Saved()


def gradients(saved, function, active):
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    saved.made = 0
    weight = saved.weight()
    if active:
        with saved.recomputation.active("cpu"):
            saved.recomputation.note(weight, saved._weight)
            loss = function(x, weight)
    else:
        loss = function(x, weight)
    loss.sum().backward()
    return x.grad, weight.grad


FUNCTIONS = {
    "linear": nn.functional.linear,
    "a turned view": lambda x, weight: x @ weight.t(),
    "a part": lambda x, weight: x * weight[2:5],
    "two uses": lambda x, weight: x @ weight[:5] @ weight[1:].t(),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_gradients_are_the_same(saved, kind):
    plain = gradients(saved, FUNCTIONS[kind], active=False)
    assert saved.made == 1
    again = gradients(saved, FUNCTIONS[kind], active=True)
    assert saved.made > 1
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


def test_the_weight_goes_as_soon_as_the_forward_pass_is_over(saved):
    x = torch.randn(3, 5, requires_grad=True)
    with saved.recomputation.active("cpu"):
        weight = saved.weight().detach()
        saved.recomputation.note(weight, saved._weight)
        alive = StorageWeakRef(weight.untyped_storage())
        loss = nn.functional.linear(x, weight).sum()
        del weight
        assert alive.expired()
    loss.backward()
    assert torch.equal(x.grad, torch.ones(3, 6) @ (2 * saved.seed))


def test_casts_of_autocast_go_too(saved):
    x = torch.randn(3, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), saved.recomputation.active("cpu"):
        weight = saved.weight().detach()
        saved.recomputation.note(weight, saved._weight)
        alive = StorageWeakRef(weight.untyped_storage())
        loss = nn.functional.linear(x, weight).float().sum()
        del weight
        assert alive.expired()
    loss.backward()
    with torch.autocast("cpu", torch.bfloat16):
        plain = torch.randn(3, 5).requires_grad_()
        nn.functional.linear(plain, 2 * saved.seed).float().sum().backward()
    assert torch.equal(x.grad, plain.grad)
    assert saved.made == 2


def test_outside_of_it_everything_is_kept(saved):
    x = torch.randn(3, 5, requires_grad=True)
    nn.functional.linear(x, saved.weight()).sum().backward()
    assert saved.made == 1


def test_memory_that_is_used_again_is_no_weight(saved):
    x = torch.randn(6, 5, requires_grad=True)
    with saved.recomputation.active("cpu"):
        saved.weight()  # is gone at once, and what comes next may lie in its place
        other = torch.ones(6, 5)
        loss = (x * other).sum()
    loss.backward()
    assert torch.equal(x.grad, torch.ones(6, 5))
