import copy

import torch
from helpers.regression import Regression
from helpers.residual import lines, wired
from helpers.stats import measure
from torch.func import functional_call


def network():
    return wired(lambda s, x: s.b(torch.tanh(s.a(x))), (torch.randn(2, 2),), **lines(2, 2))


def explicit(model, task, count):
    """H g in float64 from the explicit Hessian of the mean loss over the batches, with outputs divided by 200."""
    exact = copy.deepcopy(model).double()
    named = dict(exact.named_parameters())
    batches = [(x.double(), y.double()) for x, y in list(task.batches("train"))[:count]]
    sizes = [value.numel() for value in named.values()]

    def loss(flat):
        pieces = zip(named.items(), flat.split(sizes), strict=True)
        parts = {name: piece.view(value.shape) for (name, value), piece in pieces}
        found = [task.loss(lambda x: functional_call(exact, parts, (x,)) / 200, batch) for batch in batches]
        return sum(found) / count

    flat = torch.cat([value.detach().flatten() for value in named.values()])
    product = torch.autograd.functional.hessian(loss, flat) @ torch.func.grad(loss)(flat)
    return dict(zip(named, product.split(sizes), strict=True))


def test_one_batch_and_several_equal_the_explicit_product():
    model, program = network()
    task = Regression(inputs=(2,), outputs=2, count=3)
    for count in (1, 2):
        found = measure(program, ["hessian-gradient"], task, batches=count).found["hessian-gradient"]
        for name, expected in explicit(model, task, count).items():
            gap = (found[name].double().flatten() - expected).abs().max()
            assert gap < 1e-4 * expected.abs().max()  # float32


def test_frozen_parameters_are_left_out():
    model, program = network()
    model.a.requires_grad_(False)
    found = measure(program, ["hessian-gradient"], Regression(inputs=(2,), outputs=2)).found["hessian-gradient"]
    assert set(found) == {"b.weight", "b.bias"}
