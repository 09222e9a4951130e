import pytest
import torch
from helpers.gates import TASK, batches
from helpers.regression import Regression
from helpers.residual import mlp, resnet, wired
from helpers.stats import measure
from torch import nn

from sparsify.masking import masked


class First(Regression):
    def loss(self, model, batch):
        return (model(batch[0])[0] - batch[1]).square().mean()


def expected(model, found, task=TASK):
    loss = sum(task.loss(model, batch) for batch in found) / len(found)
    return dict(zip(dict(model.named_parameters()), torch.autograd.grad(loss, list(model.parameters())), strict=True))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_mean_over_the_batches(count):
    model, program = mlp()
    found = measure(program, ["gradient"], TASK, batches=count, seed=7).found["gradient"]
    torch.testing.assert_close(found, expected(model, batches(count, seed=7)))


def test_norms_are_in_evaluation_mode():
    model, program = resnet()
    task = Regression(inputs=(3, 8, 8), outputs=3)
    found = measure(program, ["gradient"], task, batches=2).found["gradient"]
    want = expected(model, batches(2, task=task), task)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)  # float32 sums in another order


def test_a_masked_weight_has_none():
    _, program = mlp()
    mask = torch.rand(2, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    found = measure(masked(program, {"head.weight": mask}), ["gradient"], TASK).found["gradient"]["head.weight"]
    assert torch.equal(found == 0, ~mask)


def test_frozen_parameters_are_left_out():
    model, program = mlp()
    model.stem.requires_grad_(False)
    found = measure(program, ["gradient"], TASK).found["gradient"]
    assert "stem.weight" not in found
    assert "head.weight" in found


def test_what_the_loss_does_not_depend_on_has_zeros():
    _, program = wired(lambda s, x: (s.a(x), s.b(x)), (torch.randn(2, 3),), a=nn.Linear(3, 2), b=nn.Linear(3, 2))
    found = measure(program, ["gradient"], First(outputs=2)).found["gradient"]
    assert found["a.weight"].abs().max() > 0
    assert torch.equal(found["b.weight"], torch.zeros(2, 3))


def test_nothing_is_written_into_the_parameters():
    _, program = mlp()
    measure(program, ["gradient"], TASK)
    assert all(value.grad is None for value in program.parameters.values())
