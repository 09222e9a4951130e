import pytest
import torch
from helpers.regression import Regression
from helpers.residual import mlp
from torch import nn

import sparsify as sp
from sparsify.errors import PassError
from sparsify.observation.calibration import Calibration


def test_a_loss_needs_a_task():
    with pytest.raises(PassError, match="The criterion snip needs a loss: give a task"):
        Calibration(None).check(mlp()[1], "loss", "snip")


def test_made_up_inputs_are_no_data():
    _, program = mlp()
    Calibration(None).check(program, "inputs", "oracle")
    made_up = program.with_example(program.example.args, {}, synthetic=True)
    with pytest.raises(PassError, match=r"needs data, and the example inputs are random. Give a task"):
        Calibration(None).check(made_up, "inputs", "oracle")
    Calibration(Regression()).check(made_up, "inputs", "oracle")
    Calibration(None).check(made_up, "nothing", "magnitude")


def test_labels_are_the_tasks_to_give():
    _, program = mlp()
    with pytest.raises(PassError, match="The criterion pls needs labels: give a task with labels"):
        Calibration(Regression()).check(program, "labels", "pls")


def test_the_example_is_the_data_where_there_is_no_task():
    model, program = mlp()
    ((batch, loss),) = Calibration(None).run(model, program)
    assert batch is program.example
    assert loss is None


def test_batches_come_with_their_loss():
    model, program = mlp()
    found = list(Calibration(Regression(), batches=3, seed=5).run(model, program))
    assert len(found) == 3
    (x, y), loss = found[0]
    assert loss == (model(x) - y).square().mean()


def test_a_task_that_yields_nothing_is_refused():
    class Empty(Regression):
        def batches(self, split, *, seed=0):
            return iter(()) if split == "train" else super().batches(split, seed=seed)

    program = sp.capture(nn.Sequential(nn.Linear(3, 2)), (torch.randn(2, 3),))
    with pytest.raises(PassError, match=r"The task regression gives no batch to measure on\."):
        sp.run(program, ["weight-prune:sparsity=0.5,criterion=wanda"], Empty())
