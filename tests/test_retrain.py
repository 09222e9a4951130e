import json

import pytest
import torch
from helpers.sparse import Clusters, program_of
from torch import nn

import sparsify as sp
from sparsify.capture import capture
from sparsify.errors import UsageError
from sparsify.retrain import parse_method, retrain
from sparsify.task import resolve


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return capture(model, resolve("digits").example()[0])


def test_fine_tuning_improves_the_score_and_is_recorded(program):
    task = resolve("digits")
    steps = []
    result = retrain(program, "fine-tune:steps=2ep,learning_rate=0.02", "digits", seed=1, on_step=steps.append)
    assert task.score(result.program.module()).value > task.score(program.module()).value + 0.5
    record = result.record
    assert record["method"] == "fine-tune:steps=2ep,learning_rate=0.02"
    assert (record["seed"], record["steps"]) == (1, 42)
    assert record["final_loss"] < record["first_loss"]
    assert record["seconds"] > 0
    assert json.loads(json.dumps(record)) == record
    assert len(steps) == 42
    assert record["final_loss"] == pytest.approx(sum(event.loss for event in steps[-10:]) / 10)


def test_the_canonical_spec_can_be_given_back(program):
    first = retrain(program, "fine-tune:learning_rate=2e-2,steps=5it", "digits")
    again = retrain(program, first.record["method"], "digits")
    assert again.record["method"] == first.record["method"] == "fine-tune:steps=5it,learning_rate=0.02"
    weights = [result.program.parameters["1.weight"] for result in (first, again)]
    assert torch.equal(*weights)


def test_no_steps(program):
    record = retrain(program, "fine-tune:steps=0it", "digits").record
    assert (record["steps"], record["first_loss"], record["final_loss"]) == (0, None, None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("finetune", "'finetune' .did you mean 'fine-tune'"),
        ("fine-tune:rate=1", "no option 'rate'.*learning_rate .float."),
        ("fine-tune:steps=20", "'20' is not a number of steps"),
        ("fine-tune:optimizer=lion", "sgd, adamw"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(UsageError, match=message):
        parse_method(spec)


def test_a_score_that_is_none_is_refused_before_any_training():
    class Plain(Clusters):
        def score(self, model):
            return 0.5

    steps = []
    with pytest.raises(UsageError, match=r"must return a sparsify\.Score from score, not float"):
        sp.retrain(program_of(), "fine-tune:steps=2it", Plain(), on_step=steps.append)
    assert steps == []
