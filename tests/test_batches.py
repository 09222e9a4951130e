"""Batches: their number, their device, and a loss that can be trained on."""

import pytest
import torch
from helpers.sparse import Clusters
from torch import nn

from sparsify.batches import checked_loss, epoch_length, on_device
from sparsify.errors import UsageError
from sparsify.task import resolve


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
