import copy

import torch
from helpers.regression import Regression
from helpers.residual import lines, wired
from helpers.stats import measure, weight_stats
from torch.func import functional_call

from sparsify.criteria.grasp import Grasp

TEMPERATURE = 200.0


def test_formula_keeps_the_sign():
    stats = weight_stats([[1.0, -2.0], [0.5, -1.0]], hessian_gradient=[[3.0, 1.0], [-4.0, -1.0]])
    assert torch.equal(Grasp().weight(stats), torch.tensor([[3.0, -2.0], [-2.0, 1.0]]))


def loss_of(model, batches, task, names, sizes):
    """The mean loss at a temperature, as a function of one flat vector of all parameters."""

    def loss(flat):
        parts = {
            n: part.view(s) for n, part, s in zip(names, flat.split([s.numel() for s in sizes]), sizes, strict=True)
        }

        def soft(x):
            return functional_call(model, parts, (x,)) / TEMPERATURE

        return sum(task.loss(soft, batch) for batch in batches) / len(batches)

    return loss


def setting():
    model, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (torch.randn(2, 2),), **lines(2, 2))
    task = Regression(inputs=(2,), outputs=2, count=2)
    found = measure(program, Grasp.needs, task).found["hessian-gradient"]
    exact = copy.deepcopy(model).double()
    named = dict(exact.named_parameters())
    batches = [tuple(part.double() for part in batch) for batch in task.batches("train", seed=0)]
    loss = loss_of(exact, batches, task, list(named), [p.shape for p in named.values()])
    flat = torch.cat([p.detach().reshape(-1) for p in named.values()])
    return program, named, loss, flat, found


def test_the_product_equals_the_explicit_hessian_at_temperature_200():
    _, named, loss, flat, found = setting()
    hessian = torch.autograd.functional.hessian(loss, flat)
    gradient = torch.func.grad(loss)(flat)
    expected = hessian @ gradient
    ours = torch.cat([found[name].reshape(-1) for name in named])
    assert ours.abs().max() > 0
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))  # float32


def test_keeping_the_highest_scores_preserves_the_gradient_flow_better_than_the_other_sign():
    program, named, loss, flat, found = setting()
    weights = torch.cat([torch.full((p.numel(),), p.ndim >= 2) for p in named.values()])
    scored = (Grasp().weight(weight_stats(program.parameters[n], hessian_gradient=found[n])) for n in named)
    scores = torch.cat([score.reshape(-1) for score in scored]).double()

    def flow_without(removed):
        return float(torch.func.grad(loss)(flat.masked_fill(removed, 0.0)).square().sum())

    two_lowest = scores.masked_fill(~weights, torch.inf).topk(2, largest=False).indices
    two_highest = scores.masked_fill(~weights, -torch.inf).topk(2).indices
    low, high = (torch.zeros_like(weights).index_fill(0, indices, True) for indices in (two_lowest, two_highest))
    assert flow_without(low) > flow_without(high)
