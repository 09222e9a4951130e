"""A penalized task: its loss in training, the task's own in evaluation, and everything else passed on."""

import pickle

import pytest
import torch
from helpers.sparse import Clusters, program_of

from sparsify.task import resolve
from sparsify.training.penalized import PenalizedTask
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions


def test_in_training_the_loss_counts_the_absolute_values():
    program, task = program_of(norm=True), Clusters()
    module = program.module(training=True)
    batch = task.batches("train")[0]
    module.get_parameter("1.weight").data.copy_(torch.linspace(-1, 1, 32))
    found = PenalizedTask(task, ["1.weight"], 0.5)
    plain = task.loss(module, batch)
    expected = plain + 0.5 * torch.linspace(-1, 1, 32).abs().sum()
    assert found.loss(module, batch).item() == pytest.approx(expected.item(), rel=1e-6)
    module.eval()
    assert torch.equal(found.loss(module, batch), task.loss(module, batch))
    assert found.score(module) == task.score(module)


def test_it_pulls_towards_zero():
    options = TrainOptions(steps="40it", learning_rate=0.05, weight_decay=0)
    small, own = (
        train(program_of(norm=True), PenalizedTask(Clusters(), ["1.weight"], strength), options).program.parameters
        for strength in (0.1, 0)
    )
    assert small["1.weight"].abs().sum().item() < 0.5 * own["1.weight"].abs().sum().item()


def test_without_strength_nothing_changes():
    options = TrainOptions(steps="5it")
    one = train(program_of(), PenalizedTask(Clusters(), ["0.weight"], 0.0), options)
    assert one.losses == train(program_of(), Clusters(), options).losses


def test_a_compiled_model_has_other_names():
    class Wrapped(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self._orig_mod = inner

        def forward(self, x):
            return self._orig_mod(x)

    module, task = program_of().module(training=True), Clusters()
    penalized = PenalizedTask(task, ["0.weight"], 1.0)
    batch = task.batches("train")[0]
    assert torch.equal(penalized.loss(Wrapped(module).train(), batch), penalized.loss(module, batch))


def test_what_else_a_task_has_is_found():
    task = PenalizedTask(resolve("digits:batch_size=32"), [], 1.0)
    assert (task.name, task.batch_size) == ("digits", 32)
    assert len(list(task.batches("train", seed=1))) == 1347 // 32
    assert pickle.loads(pickle.dumps(task)).batch_size == 32
    with pytest.raises(AttributeError):
        task.nothing  # noqa: B018
