"""Several trainings in one: what single ones give, and what is refused; which is faster is the machine's affair."""

from dataclasses import replace

import pytest
import torch
from helpers.command import small_program
from helpers.sweeps import tiny_program
from torch import nn

from sparsify.capture import capture
from sparsify.pipeline import run
from sparsify.task import Score
from sparsify.tasks.digits import Digits
from sparsify.training.batched import CannotTogether, together_pays, train_together
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions

OPTIONS = TrainOptions(steps="8it", learning_rate=0.05, warmup="3it", weight_decay=0.01)
SEEDS = (4, 9)
TASK = Digits()


def pruned(program, seed):
    return run(program, ["weight-prune:sparsity=0.7,criterion=random"], seed=seed).program


# The second has batch norms and convolutions.
@pytest.mark.parametrize(
    ("make", "optimizer"), [(tiny_program, "sgd"), (tiny_program, "adamw"), (small_program, "sgd")]
)
def test_each_learns_what_it_learns_alone(make, optimizer):
    options = replace(OPTIONS, optimizer=optimizer, learning_rate=0.05 if optimizer == "sgd" else 1e-3)
    programs = [pruned(make(), seed) for seed in SEEDS]
    before = {name: value.clone() for name, value in programs[0].parameters.items()}
    together = train_together(programs, TASK, options, SEEDS)
    for program, seed, one in zip(programs, SEEDS, together, strict=True):
        alone = train(program, TASK, options, seed=seed)
        # Sums in another order: a few units in the last place, which the steps carry on.
        assert one.losses == pytest.approx(alone.losses, rel=1e-4)
        for name, value in {**alone.program.parameters, **alone.program.buffers}.items():
            found = {**one.program.parameters, **one.program.buffers}[name]
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-4)
        for name, mask in program.masks.items():
            assert torch.equal(one.program.masks[name], mask)
            assert not one.program.parameters[name][~mask].any()
        assert TASK.score(one.program.module()).value == pytest.approx(
            TASK.score(alone.program.module()).value, abs=0.005
        )
    assert together[0].losses != together[1].losses
    assert all(torch.equal(before[name], value) for name, value in programs[0].parameters.items())


def test_random_generators_stay_as_they_were():
    before = torch.get_rng_state()
    train_together([tiny_program()] * 2, TASK, replace(OPTIONS, steps="2it", warmup="0it"), (0, 1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (replace(OPTIONS, clip=1.0), "clip=1.0 is for single trainings"),
        (replace(OPTIONS, audit=True), "audit=True"),
        (replace(OPTIONS, precision="bf16"), "precision=bf16"),
        (replace(OPTIONS, score_every="4it"), "score_every=4it"),
    ],
)
def test_options_that_it_does_not_have_are_refused(options, why):
    with pytest.raises(CannotTogether, match=why):
        train_together([tiny_program()] * 2, TASK, options, (0, 1))


def test_what_is_random_on_the_way_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.2))
    program = capture(network, (torch.randn(2, 1, 8, 8),))
    with pytest.raises(CannotTogether, match="random"):
        train_together([program] * 2, TASK, OPTIONS, (0, 1))
    pays, why = together_pays(program, TASK, OPTIONS, (0, 1))
    assert not pays
    assert "random" in why


def test_networks_of_other_sizes_are_refused():
    with pytest.raises(CannotTogether, match="different networks"):
        train_together([tiny_program(), small_program()], TASK, OPTIONS, (0, 1))


def test_losses_that_are_not_finite_are_left_to_single_trainings():
    with pytest.raises(CannotTogether, match="not finite"):
        train_together([tiny_program()] * 2, TASK, replace(OPTIONS, learning_rate=1e30, warmup="0it"), (0, 1))


class Drawing:
    """A task whose loss draws something outside of its batches: the seed of a step decides it."""

    name = "drawing"

    def batches(self, split, *, seed=0):
        return TASK.batches(split, seed=seed)

    def loss(self, model, batch):
        import random

        return TASK.loss(model, batch) * (1 + random.random())

    def score(self, model):
        return Score(0.0, "zero", 1)


def test_a_loss_that_differs_from_that_of_single_trainings_is_found():
    pays, why = together_pays(tiny_program(), Drawing(), OPTIONS, (0, 1))
    assert not pays
    assert why == "the losses are not those of single trainings"


def test_what_is_found_is_told():
    pays, why = together_pays(tiny_program(), TASK, OPTIONS, range(8))
    assert isinstance(pays, bool)
    assert why.endswith("times as fast as one by one")
    assert together_pays(tiny_program(), TASK, replace(OPTIONS, steps="3it"), (0, 1)) == (
        False,
        "the training is short",
    )
