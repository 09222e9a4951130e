"""Running a model beside a program: how far it comes, where it fails, and that it is left as it was."""

import torch
from torch import nn
from torch.nn.modules import module as torch_module

import sparsify as sp
from sparsify.writing.trials import Trials


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.broken = self.rows = None
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        x = self.second(self.first(x))
        if x.shape[0] == self.rows:
            raise ValueError("no")
        return self.third(x[:, :3] if self.broken else x)


def trials():
    torch.manual_seed(0)
    model = Net()
    return model, Trials(sp.capture(model, (torch.randn(3, 4),)), model)


def test_a_model_that_is_right():
    model, tried = trials()
    outcome = tried.run()
    assert outcome.right
    assert outcome.error is None
    assert model.training
    assert model.calls == 0
    assert not torch_module._global_forward_hooks
    assert not torch_module._global_forward_pre_hooks


def test_a_model_that_fails_is_told_where():
    model, tried = trials()
    model.broken = True
    outcome = tried.run()
    assert not outcome.right
    assert isinstance(outcome.error, RuntimeError)
    assert outcome.running == (model, model.third)
    model.broken, model.rows = None, 3
    sooner = tried.run()
    assert sooner.running == (model,)
    assert sooner.done == outcome.done == (0, 2)
    assert not torch_module._global_forward_hooks


def test_a_model_that_fails_at_another_batch_size_comes_further():
    model, tried = trials()
    model.rows = 4
    outcome = tried.run()
    assert outcome.done == (1, 2)
    assert isinstance(outcome.error, ValueError)


def test_a_model_that_computes_something_else():
    model, tried = trials()
    with torch.no_grad():
        model.third.weight.mul_(1.01)
    outcome = tried.run()
    assert outcome.error is None
    assert 1e-3 < outcome.gap < 1
    assert outcome.done == (0, 4)
    assert not outcome.right
