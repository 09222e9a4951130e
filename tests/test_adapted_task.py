"""Tasks of three methods: the name is that of the class, and without a seed epochs have one order."""

import copy

import pytest
import torch
from helpers.sparse import Clusters, program_of
from torch.utils.data import DataLoader, TensorDataset

import sparsify as sp
from sparsify.adapted_task import AdaptedTask
from sparsify.task import Task, resolve


class Three:
    """Three methods, and nothing else."""

    def batches(self, split):
        return Clusters().batches(split)

    def loss(self, model, batch):
        return Clusters().loss(model, batch)

    def score(self, model):
        return Clusters().score(model)


class Loaded(Three):
    extra = 7

    def batches(self, split):
        x, y = Clusters().batches(split)[0]
        return DataLoader(TensorDataset(x, y), 8, shuffle=True)


def test_three_methods_suffice():
    task = resolve(Three())
    assert isinstance(task, Task)
    assert task.name == "Three"
    assert resolve(task) is task
    result = sp.retrain(program_of(), "fine-tune:steps=60it,learning_rate=0.05", Three())
    scores = result.report["scores"]
    assert scores["after"]["value"] > scores["before"]["value"]


def test_without_a_seed_every_epoch_is_the_same():
    task = resolve(Three())
    one, other = (list(task.batches("train", seed=seed)) for seed in (1, 2))
    assert len(task.batches("train")) == 8
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_what_is_drawn_from_the_global_generators_follows_the_seed():
    def order(task, split, seed):
        return torch.cat([x for x, _ in task.batches(split, seed=seed)])

    task = resolve(Loaded())
    assert torch.equal(order(task, "train", 1), order(task, "train", 1))
    assert not torch.equal(order(task, "train", 1), order(task, "train", 2))
    assert torch.equal(order(task, "validation", 1), order(task, "validation", 2))


def test_what_else_a_task_has_is_found():
    task = AdaptedTask(Loaded(), seeded=False)
    assert task.extra == 7
    assert copy.deepcopy(task).name == "Loaded"
    with pytest.raises(AttributeError):
        task.example  # noqa: B018 -- it has none


def test_a_name_alone_may_lack():
    class Nameless(Three):
        def batches(self, split, *, seed=0):
            return Clusters().batches(split, seed=seed)

    task = resolve(Nameless())
    assert task.name == "Nameless"
    one, other = (next(iter(task.batches("train", seed=seed)))[0] for seed in (1, 2))
    assert not torch.equal(one, other)
