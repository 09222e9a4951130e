import torch
from helpers.gates import TASK, batches, hidden
from helpers.regression import Regression
from helpers.stats import measure

from sparsify.capture import capture


def squares(model, found):
    rows = []
    for batch in found:
        gradients = torch.autograd.grad(TASK.loss(model, batch), list(model.parameters()))
        rows.append([gradient.square() for gradient in gradients])
    means = [torch.stack(values).mean(0) for values in zip(*rows, strict=True)]
    return dict(zip(dict(model.named_parameters()), means, strict=True))


def test_every_example_has_a_gradient_of_its_own():
    model, program, _ = hidden()
    found = measure(program, ["squared-gradient"], TASK, batches=2).found["squared-gradient"]
    examples = [(x[i : i + 1], y[i : i + 1]) for x, y in batches(2) for i in range(len(x))]
    torch.testing.assert_close(dict(found), squares(model, examples))


class Odd(Regression):
    """Batches with a tensor that has another first dimension."""

    def batches(self, split, *, seed=0):
        for x, y in super().batches(split, seed=seed):
            yield x, y, torch.zeros(2)

    def loss(self, model, batch):
        return super().loss(model, batch[:2])


def test_what_cannot_be_divided_counts_as_a_batch():
    model, program, _ = hidden()
    found = measure(program, ["squared-gradient"], Odd(count=3), batches=2).found["squared-gradient"]
    torch.testing.assert_close(dict(found), squares(model, batches(2)))


def test_a_fixed_batch_size_is_kept():
    model, _, _ = hidden()
    program = capture(Fixed(model), (torch.randn(5, 3),))
    found = measure(program, ["squared-gradient"], TASK, batches=2).found["squared-gradient"]
    assert not program.dynamic_batch
    torch.testing.assert_close(found["model.b.weight"], squares(model, batches(2))["b.weight"])


class Fixed(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.view(5, 3))


def test_frozen_parameters_are_left_out():
    model, program, _ = hidden()
    model.a.requires_grad_(False)
    assert set(measure(program, ["squared-gradient"], TASK).found["squared-gradient"]) == {"b.weight", "b.bias"}
