from dataclasses import dataclass

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.evaluation.limited import LimitedTask, examples_of
from sparsify.task import accuracy, resolve


class Plain:
    """A task without a name and a seed; every label is 0."""

    def batches(self, split):
        return [(torch.zeros(10, 2), torch.zeros(10).long()) for _ in range(3 if split == "validation" else 5)]

    def loss(self, model, batch):
        return model(batch[0]).sum()

    def score(self, model):
        n = sum(len(labels) for _, labels in self.batches("validation"))
        return accuracy(n, n)


class Hidden(Plain):
    def score(self, model):
        return accuracy(1, 2)


@pytest.mark.parametrize(("examples", "n"), [(1, 10), (11, 20), (20, 20), (99, 30)])
def test_whole_batches_until_there_are_enough(examples, n):
    task = LimitedTask(resolve(Plain()), examples)
    assert task.score(torch.nn.Identity()).n == n
    assert sum(map(examples_of, task.batches("validation"))) == n
    assert len(list(task.batches("train"))) == 5
    assert task.name == "Plain"


def test_the_task_itself_stays_whole():
    task = Plain()
    LimitedTask(resolve(task), 1).score(torch.nn.Identity())
    assert task.score(torch.nn.Identity()).n == 30


def test_built_in_tasks_and_loaders():
    digits = resolve("digits")
    limited = LimitedTask(digits, 100)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    assert (limited.score(model).n, digits.score(model).n) == (128, 450)
    assert limited.pixel_range == digits.pixel_range
    data = DataLoader(TensorDataset(torch.randn(50, 64), torch.zeros(50).long()), 20)
    loaders = sp.LoaderTask(data, data, lambda model, batch: model(batch[0]).sum())
    assert LimitedTask(loaders, 25).score(torch.nn.Linear(64, 10)).n == 40


def test_a_score_that_does_not_ask_for_batches_is_refused():
    with pytest.raises(UsageError, match=r"Hidden does not go through its batches\(\), so --examples 5"):
        LimitedTask(resolve(Hidden()), 5).score(torch.nn.Identity())


def test_examples_of_any_batch():
    @dataclass
    class Own:
        x: torch.Tensor

    assert examples_of({"ids": torch.zeros(7, 2), "n": 3}) == 7
    assert examples_of([torch.tensor(1.0), torch.zeros(4)]) == 4
    assert examples_of(Own(torch.zeros(5))) == 1
