"""The tasks in examples/, made as the command line makes them."""

from pathlib import Path

import pytest
import torch
from helpers.command import small_resnet

import sparsify as sp
from sparsify.task import example_inputs, resolve

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.parametrize("name", ["own_task.py", "own_loader.py"])
def test_a_model_is_pruned_and_retrained(name):
    task = resolve(f"{EXAMPLES / name}:make")
    assert isinstance(task, sp.Task)
    args, kwargs = example_inputs(task)
    program = sp.capture(small_resnet(), args, kwargs)
    small = sp.run(program, ["layer-prune:count=1,criterion=snip"], task=task).program
    result = sp.retrain(small, "fine-tune:steps=60it,learning_rate=0.05", task=task)
    after = result.report["scores"]["after"]
    assert after["value"] > 0.3  # of a network with random weights it was 0.1
    assert (after["name"], after["n"]) == ("accuracy", pytest.approx(450, abs=1))
    again = sp.retrain(small, "fine-tune:steps=60it,learning_rate=0.05", task=task)
    assert all(torch.equal(value, again.program.parameters[key]) for key, value in result.program.parameters.items())
