import copy

import pytest
import torch
from helpers.gates import TASK, batches, hidden
from helpers.regression import Regression
from helpers.stats import measure

from sparsify.observation.calibration import Calibration
from sparsify.observation.subject import Subject
from sparsify.statistics.meta_gradient import MetaGradient


def measured(program, task=TASK, batches=3, **options):
    subject = Subject(program, Calibration(task, batches), list(program.parameters))
    return MetaGradient(**options).measure(subject)


def trained_loss(model, steps, rate, found):
    """The mean loss over the batches after the steps, in float64."""
    model = copy.deepcopy(model).double()
    found = [(x.double(), y.double()) for x, y in found]
    for batch in found[:steps]:
        gradients = torch.autograd.grad(TASK.loss(model, batch), list(model.parameters()))
        with torch.no_grad():
            for value, gradient in zip(model.parameters(), gradients, strict=True):
                value.sub_(rate * gradient)
    with torch.no_grad():
        return sum(float(TASK.loss(model, batch)) for batch in found[steps:]) / len(found[steps:])


@pytest.mark.parametrize("steps", [1, 2])
def test_finite_differences_through_training(steps):
    model, program, _ = hidden()
    found = measured(program, steps=steps, learning_rate=0.2)
    for name, (row, column) in {"a.weight": (3, 1), "b.weight": (1, 4)}.items():
        losses = []
        for change in (1e-4, -1e-4):
            other = copy.deepcopy(model).double()
            with torch.no_grad():
                other.get_parameter(name)[row, column] += change
            losses.append(trained_loss(other, steps, 0.2, batches(3)))
        expected = (losses[0] - losses[1]) / 2e-4
        torch.testing.assert_close(float(found[name][row, column]), expected, rtol=2e-3, atol=1e-5)  # float32


def test_without_steps_it_is_the_gradient():
    _, program, _ = hidden()
    found = measured(program, steps=0)
    expected = measure(program, ["gradient"], TASK, batches=3).found["gradient"]
    torch.testing.assert_close(found, dict(expected))


def test_training_matters():
    _, program, _ = hidden()
    none, some = measured(program, steps=0), measured(program, steps=2)
    assert (none["a.weight"] - some["a.weight"]).abs().max() > 1e-3


def test_a_single_batch_trains_and_gives_the_loss():
    _, program, _ = hidden()
    found = measured(program, Regression(count=1), steps=3)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    assert found["b.weight"].abs().max() > 0


def test_frozen_parameters_do_not_train_and_nothing_of_the_program_changes():
    model, program, _ = hidden()
    model.a.requires_grad_(False)
    before = {name: value.clone() for name, value in program.parameters.items()}
    assert set(measured(program)) == {"b.weight", "b.bias"}
    assert all(torch.equal(before[name], value) for name, value in program.parameters.items())
