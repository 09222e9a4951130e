import copy

import pytest
import torch
from torch import nn

from sparsify.task import Task, example_inputs, resolve
from sparsify.wrapped_task import WrappedTask


@pytest.fixture(scope="module")
def digits():
    return resolve("digits")


def test_it_is_the_task_that_it_is_around(digits):
    task = WrappedTask(digits)
    assert isinstance(task, Task)
    assert task.name == digits.name
    batch, other = (next(iter(held.batches("train", seed=3))) for held in (task, digits))
    assert all(torch.equal(one, two) for one, two in zip(batch, other, strict=True))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    assert torch.equal(task.loss(model, batch), digits.loss(model, batch))
    assert task.score(model) == digits.score(model)


def test_what_else_a_task_has_is_found(digits):
    task = copy.copy(WrappedTask(digits))
    assert torch.equal(example_inputs(task)[0][0], example_inputs(digits)[0][0])
    with pytest.raises(AttributeError):
        _ = task.nothing
