import math
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from sparsify.capture import capture
from sparsify.errors import UsageError
from sparsify.task import Score
from sparsify.training.train import TrainingError, train
from sparsify.training.train_options import TrainOptions


@dataclass
class Line:
    """Fit y = 2x with a linear layer; the options make it misbehave."""

    epoch: int = 4
    poison: int = -1
    scale: float = 1.0
    sized: bool = True
    name: str = "line"

    def batches(self, split, *, seed=0):
        x = torch.randn(self.epoch, 32, 3, generator=torch.Generator().manual_seed(seed))
        if self.poison >= 0:
            x[self.poison] = math.nan
        batches = [{"x": (batch, 2 * batch.sum(1, keepdim=True))} for batch in x]
        return batches if self.sized else iter(batches)

    def loss(self, model, batch):
        x, y = batch["x"]
        return self.scale * (model(x) - y).square().mean()

    def score(self, model):
        return Score(0.0, "zero", 1)


def network(seed=0, *, trainable=True):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
    model.requires_grad_(trainable)
    return capture(model, (torch.randn(4, 3),))


@pytest.fixture(scope="module")
def program():
    return network()


OPTIONS = TrainOptions(steps="30it", learning_rate=0.01)


def tensors(program):
    return {**program.parameters, **program.buffers}


def same(one, two):
    return all(torch.equal(tensors(one)[name], tensors(two)[name]) for name in tensors(one))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_seed_gives_the_same_bits(program, optimizer):
    options = replace(OPTIONS, optimizer=optimizer, clip=1.0, warmup="1ep")
    first, again = train(program, Line(), options, seed=3), train(program, Line(), options, seed=3)
    other = train(program, Line(), options, seed=4)
    assert first.losses == again.losses
    assert same(first.program, again.program)
    assert first.losses != other.losses
    assert not same(first.program, other.program)


def test_dropout_is_seeded_too():
    class Fixed(Line):
        def batches(self, split, *, seed=0):
            return super().batches(split, seed=0)

    program = network()
    one, two = (train(program, Fixed(), OPTIONS, seed=seed).losses for seed in (1, 2))
    assert one != two


def test_it_learns_and_leaves_everything_else_alone():
    program = capture(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)), (torch.randn(4, 3),))
    before = {name: value.clone() for name, value in tensors(program).items()}
    generator = torch.get_rng_state()
    trained = train(program, Line(), replace(OPTIONS, steps="150it"))
    assert sum(trained.losses[-20:]) < 0.5 * sum(trained.losses[:20])
    assert len(trained.losses) == 150
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in tensors(program).items())
    assert trained.program.parameters["1.weight"].grad is None
    assert not torch.equal(trained.program.buffers["0.running_mean"], before["0.running_mean"])


def test_events_carry_the_schedule(program):
    events = []
    train(program, Line(), replace(OPTIONS, steps="2ep", warmup="4it", schedule="linear"), on_step=events.append)
    assert [event.step for event in events] == list(range(1, 9))
    assert {event.steps for event in events} == {8}
    factors = [event.learning_rate / 0.01 for event in events]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25])
    assert all(event.loss > 0 and event.gradient_norm > 0 for event in events)


def test_a_listener_can_take_a_copy_on_the_way(program):
    copies = []
    trained = train(program, Line(), OPTIONS, on_step=lambda event: copies.append(program.with_state(event.module)))
    assert same(copies[-1], trained.program)
    assert not same(copies[0], trained.program)


def test_one_step_of_sgd_by_hand():
    class OneBatch(Line):
        def batches(self, split, *, seed=0):
            return super().batches(split, seed=0)[:1]

    model, task = nn.Linear(3, 1), OneBatch()
    task.loss(model, task.batches("train")[0]).backward()
    weight, bias = model.weight.grad, model.bias.grad
    norm = math.sqrt(weight.square().sum() + bias.square().sum())
    options = TrainOptions("1it", learning_rate=0.1, weight_decay=0.5, schedule="constant", clip=norm / 2)
    events = []
    trained = train(capture(model, (torch.randn(4, 3),)), task, options, on_step=events.append).program.parameters
    assert events[0].gradient_norm == pytest.approx(norm)
    torch.testing.assert_close(trained["weight"], model.weight - 0.1 * (weight / 2 + 0.5 * model.weight))
    torch.testing.assert_close(trained["bias"], model.bias - 0.1 * bias / 2)  # no weight decay


def test_no_step_changes_nothing(program):
    trained = train(program, Line(), replace(OPTIONS, steps="0it"))
    assert trained.losses == ()
    assert same(trained.program, program)


@pytest.mark.parametrize(("task", "what"), [(Line(poison=2), "loss is nan"), (Line(scale=1e30), "gradient is inf")])
def test_divergence_says_where(program, task, what):
    with pytest.raises(TrainingError, match=rf"{what} at step {3 if task.poison == 2 else 1} of 30\. Try a lower"):
        train(program, task, OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0 is not positive"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"steps": "30"}, "'30' is not a number of steps"),
        ({"warmup": "soon"}, "'soon' is not a number of steps"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        TrainOptions(**options)


class NoLoss(Line):
    def loss(self, model, batch):
        return 1.0


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (Line(), replace(OPTIONS, warmup="10ep"), "warmup=10ep is longer than steps=30it"),
        (Line(epoch=0), OPTIONS, "the task line gives no training batch"),
        (NoLoss(), OPTIONS, "loss of the task line is not a scalar"),
    ],
)
def test_what_does_not_fit_together(program, task, options, message):
    with pytest.raises(UsageError, match=message):
        train(program, task, options)


def test_nothing_to_train():
    with pytest.raises(UsageError, match="no trainable parameter"):
        train(network(trainable=False), Line(), OPTIONS)


def test_frozen_parameters_stay():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    model[0].requires_grad_(False)
    program = capture(model, (torch.randn(4, 3),))
    trained = train(program, Line(), OPTIONS).program
    assert torch.equal(trained.parameters["0.weight"], program.parameters["0.weight"])
    assert not trained.parameters["0.weight"].requires_grad
    assert not torch.equal(trained.parameters["1.weight"], program.parameters["1.weight"])


def test_what_a_task_draws_is_the_same_and_generators_are_left_alone(program):
    class Noisy(Line):
        def loss(self, model, batch):
            x, y = batch["x"]
            return (model(x + float(np.random.randn()) + random.random()) - y).square().mean()

    np.random.seed(1)
    random.seed(1)
    before = random.getstate()
    first = train(program, Noisy(), OPTIONS).losses
    assert random.getstate() == before
    np.random.seed(2)
    random.seed(2)
    assert train(program, Noisy(), OPTIONS).losses == first
