import pytest
import torch
from helpers.gates import TASK, batches, hidden
from helpers.regression import Regression
from helpers.residual import wired
from helpers.stats import measure
from torch import nn

from sparsify.capture import capture
from sparsify.layers import layers
from sparsify.observation.calibration import Calibration
from sparsify.observation.subject import Subject
from sparsify.statistics.kronecker_factors import KroneckerFactors


class One(Regression):
    def loss(self, model, batch):
        return model(batch[0]).mean()


def parts(program, task, name, **options):
    found = measure(program, ["kronecker-factors"], task, signals=[], **options).found["kronecker-factors"]
    layer = next(layer for layer in layers(program) if layer.parameter == name)
    return KroneckerFactors.parts(found[name], layer.layout.matrices(program.parameters[name].detach()).shape)


def examples(model, found):
    """Return the gradient of `a.weight` for each example's part of each batch's mean loss."""
    rows = []
    for x, y in found:
        rows += [
            torch.autograd.grad(TASK.loss(model, (x[i : i + 1], y[i : i + 1])) / len(x), model.a.weight)[0]
            for i in range(len(x))
        ]
    return torch.stack(rows)


@pytest.mark.parametrize("count", [1, 2])
def test_the_second_moments_of_the_examples_gradients_along_the_eigenvectors(count):
    model, program, _ = hidden()
    inner, outer, scale = parts(program, TASK, "a.weight", batches=count)
    turned = outer[0].T @ examples(model, batches(count)) @ inner[0]
    torch.testing.assert_close(scale[0], turned.square().sum(0) / count, rtol=1e-4, atol=1e-9)  # float32


def test_the_eigenvectors_diagonalise_the_inputs_second_moments():
    _, program, _ = hidden()
    inner, outer, _ = parts(program, TASK, "a.weight", batches=2)
    x = torch.cat([x for x, _ in batches(2)])
    turned = inner[0].T @ (x.T @ x) @ inner[0]
    torch.testing.assert_close(turned, torch.diag(turned.diagonal()), rtol=0, atol=1e-4)
    torch.testing.assert_close(outer[0].T @ outer[0], torch.eye(5))


LAYERS = {  # with inputs for which there is one position
    "convolution": (nn.Conv2d(4, 6, 3, groups=2), (4, 3, 3)),
    "one-dimension": (nn.Conv1d(4, 6, 3, dilation=2), (4, 5)),
    "transposed": (nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1), (4, 1, 1)),
    "transposed-groups": (nn.ConvTranspose2d(4, 6, 2, 2, groups=2), (4, 1, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rows_of_inputs_and_gradients_fit_each_other(name):
    """With one position in all, the sum of the second moments is the squared norm of the weight's gradient."""
    layer, sizes = LAYERS[name]
    _, program = wired(lambda s, x: s.a(x).flatten(1).square(), (torch.randn(1, *sizes),), a=layer)
    task = One(inputs=sizes, size=1)
    _, _, scale = parts(program, task, "a.weight", batches=1)
    gradient = measure(program, ["gradient"], task, batches=1).found["gradient"]["a.weight"]
    torch.testing.assert_close(scale.sum(), gradient.square().sum(), rtol=1e-4, atol=0)  # float32


@pytest.mark.parametrize("name", LAYERS)
def test_every_position_counts(name):
    layer, sizes = LAYERS[name]
    larger = tuple(size if i == 0 else size + 4 for i, size in enumerate(sizes))
    _, program = wired(lambda s, x: s.a(x).flatten(1).square(), (torch.randn(2, *larger),), a=layer)
    inner, outer, scale = parts(program, One(inputs=larger), "a.weight")
    assert bool(torch.isfinite(scale).all())
    assert (scale.sum((1, 2)) > 0).all()
    for basis in (inner, outer):
        torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[-1]).expand_as(basis), rtol=0, atol=1e-5)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.randn(3, 4, 5))

    def forward(self, x):
        return torch.bmm(x.transpose(0, 1), self.a).square()


def test_every_expert_has_matrices_of_its_own():
    torch.manual_seed(0)
    program = capture(Experts(), (torch.randn(1, 3, 4),))
    task = One(inputs=(3, 4), size=1)
    inner, outer, scale = parts(program, task, "a", batches=1)
    gradient = measure(program, ["gradient"], task, batches=1).found["gradient"]["a"]
    assert (inner.shape, outer.shape) == ((3, 4, 4), (3, 5, 5))
    torch.testing.assert_close(scale.sum((1, 2)), gradient.square().sum((1, 2)), rtol=1e-4, atol=0)  # float32


def test_memory_is_known_beforehand():
    _, program, _ = hidden()
    subject = Subject(program, Calibration(TASK), list(program.parameters))
    assert KroneckerFactors().bytes(subject, "a.weight") >= 4 * (3 * 3 + 5 * 5 + 3 * 5)
    assert KroneckerFactors().bytes(subject, "a.bias") == 0
