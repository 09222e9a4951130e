"""Batches: their number, their device, and a loss that can be trained on."""

import pytest
import torch
from helpers.sparse import Clusters, program_of
from torch import nn

import sparsify as sp
from sparsify.batches import checked_loss, epoch_length, given_batches, on_device
from sparsify.errors import UsageError
from sparsify.task import resolve
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions


class Unsized(Clusters):
    def batches(self, split, *, seed=0):
        return iter(super().batches(split, seed=seed))


@pytest.mark.parametrize(("task", "length"), [(Clusters(), 8), (Unsized(), 8), (resolve("digits"), 21)])
def test_the_length_of_an_epoch(task, length):
    assert epoch_length(task) == length


def test_tensors_go_to_a_device_wherever_they_are():
    batch = {"x": [torch.ones(2), "text"], "y": (torch.ones(1), 3)}
    moved = on_device(batch, torch.device("meta"))
    assert moved["x"][0].device.type == moved["y"][0].device.type == "meta"
    assert (moved["x"][1], moved["y"][1]) == ("text", 3)


@pytest.mark.parametrize("loss", [0.5, torch.ones(2, requires_grad=True), torch.ones(())])
def test_a_loss_that_cannot_be_trained_on_is_refused(loss):
    class Wrong(Clusters):
        def loss(self, model, batch):
            return loss

    with pytest.raises(UsageError, match="loss of the task clusters is not a scalar tensor with a gradient"):
        checked_loss(Wrong(), nn.Identity(), None)


def test_without_gradients_a_loss_needs_none():
    class Plain(Clusters):
        def loss(self, model, batch):
            return torch.ones(())

    with torch.no_grad():
        assert checked_loss(Plain(), nn.Identity(), None).item() == 1.0


class Failing(Clusters):
    def __init__(self, where):
        self.where = where

    def batches(self, split, *, seed=0):
        if self.where == "batches":
            raise OSError("no such disk")
        return super().batches(split, seed=seed)

    def loss(self, model, batch):
        return {}["missing"]


@pytest.mark.parametrize(("where", "what"), [("batches", "give its train batches: OSError: no such disk"),
                                              ("loss", "compute the loss: KeyError: 'missing'")])  # fmt: skip
def test_errors_of_a_task_are_the_tasks(where, what):
    task = Failing(where)
    with pytest.raises(UsageError, match=rf"The task clusters cannot {what} \(.*test_batches.py, line \d+\)"):
        checked_loss(task, nn.Identity(), next(given_batches(task, "train")))
    with pytest.raises(UsageError, match="clusters cannot"):
        sp.retrain(program_of(), "fine-tune:steps=2it", task)


def test_an_epoch_without_batches_is_refused():
    class Empty(Clusters):
        def batches(self, split, *, seed=0):
            return [] if split == self.empty else super().batches(split, seed=seed)

    task = Empty()
    task.empty = "train"
    with pytest.raises(UsageError, match="clusters gives no training batch"):
        sp.retrain(program_of(), "fine-tune:steps=2ep", task)
    task.empty = "validation"
    with pytest.raises(UsageError, match="gives no validation batch"):
        train(program_of(), task, TrainOptions(steps="2it", score_every="1it"))
