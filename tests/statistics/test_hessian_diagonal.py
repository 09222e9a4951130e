import copy

import torch
from helpers.gates import TASK, batches, hidden
from helpers.regression import Regression
from helpers.residual import wired
from helpers.stats import measure
from torch import nn
from torch.func import functional_call


class Quadratic(Regression):
    """½ Σ h θ² of the weights: its Hessian is diagonal."""

    def loss(self, model, batch):
        weight = next(model.parameters())
        return (self.curvature * weight.square()).sum() / 2


def test_exact_where_the_hessian_is_diagonal():
    _, program = wired(lambda s, x: s.a(x), (torch.randn(2, 3),), a=nn.Linear(3, 2, bias=False))
    task = Quadratic()
    task.curvature = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 100.0]])
    found = measure(program, ["hessian-diagonal"], task).found["hessian-diagonal"]["a.weight"]
    torch.testing.assert_close(found, task.curvature)


def test_close_to_the_explicit_diagonal_of_a_network():
    model, program, _ = hidden()
    task = Regression(inputs=(3,), outputs=2, count=40)
    found = measure(program, ["hessian-diagonal"], task, batches=40).found["hessian-diagonal"]
    named = dict(copy.deepcopy(model).double().named_parameters())
    sizes = [value.numel() for value in named.values()]
    x, y = (torch.cat(part).double() for part in zip(*batches(40, task=task), strict=True))

    def loss(flat):
        parts = {n: p.view(v.shape) for (n, v), p in zip(named.items(), flat.split(sizes), strict=True)}
        return TASK.loss(lambda x: functional_call(model, parts, (x,)), (x, y))

    hessian = torch.autograd.functional.hessian(loss, torch.cat([v.detach().flatten() for v in named.values()]))
    ours = torch.cat([found[name].flatten() for name in named]).double()
    error = (hessian.square().sum(1) - hessian.diagonal().square()).sqrt() / (40 * 8) ** 0.5  # one deviation of ours
    assert ((ours - hessian.diagonal()).abs() < 5 * error + 0.3 * hessian.diagonal().abs()).all()  # and of the batches
    assert torch.corrcoef(torch.stack([ours, hessian.diagonal()]))[0, 1] > 0.9


def test_the_seed_decides():
    _, program, _ = hidden()
    runs = (measure(program, ["hessian-diagonal"], TASK, seed=seed) for seed in (1, 1, 2))
    one, same, other = (run.found["hessian-diagonal"]["a.weight"] for run in runs)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_loss_without_curvature_has_zeros():
    class Linear(Regression):
        def loss(self, model, batch):
            return model(batch[0]).sum()

    _, program = wired(lambda s, x: s.a(x), (torch.randn(2, 3),), a=nn.Linear(3, 2))
    found = measure(program, ["hessian-diagonal"], Linear()).found["hessian-diagonal"]
    assert torch.equal(found["a.weight"], torch.zeros(2, 3))
