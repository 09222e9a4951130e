import json

import pytest
import torch
from helpers.command import small_program
from torch import nn

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.evaluation.evaluate import Evaluation, Power, evaluate
from sparsify.evaluation.memory import peak_bytes
from sparsify.task import resolve


@pytest.fixture(scope="module")
def programs():
    dense = small_program()
    return {"dense": dense, "small": sp.run(dense, ["layer-prune:blocks=layer2.1"]).program}


@pytest.fixture(scope="module")
def found(programs):
    how = Evaluation(
        corruptions=["fog", "saturate", "gaussian-noise"],
        severities=(2, 4),
        shifted={"other": resolve("digits:split_seed=1")},
        seconds=0.01,
        threads=1,
        power=Power(meter="watts", watts=20, grid=100),
    )
    return evaluate(programs, resolve("digits"), how)


def test_every_number_is_that_of_its_part(programs, found):
    task = resolve("digits")
    for row, (name, program) in zip(found["models"], programs.items(), strict=True):
        cost = sp.cost(program)
        assert row["name"] == name
        score = task.score(program.module())
        assert row["score"] == {"name": "accuracy", "value": score.value, "n": 450, "interval": list(score.interval)}
        assert (row["macs"], row["parameters"], row["bytes"]) == (cost.macs, cost.parameters, cost.bytes)
        assert row["activation_bytes"] == peak_bytes(program)
        assert row["shifted"]["other"]["value"] == resolve("digits:split_seed=1").score(program.module()).value
        energy, milliseconds = row["energy"], row["latency_ms"]["median"]
        assert energy["joules"] == pytest.approx(20 * milliseconds)
        assert energy["co2_grams"] == pytest.approx(energy["joules"] / 3.6e6 * 100)
        assert row["arithmetic_joules"] == pytest.approx(cost.macs * 4.6e-9)
    dense, small = found["models"]
    assert dense["speed"] is dense["similarity"] is None
    assert small["speed"]["low"] <= small["speed"]["ratio"] <= small["speed"]["high"]


def test_corruptions_fit_or_are_named(found):
    assert found["left_out"] == {"saturate": "the images are grey"}
    assert found["pixels"]["size"] == [8, 8]
    assert found["pixels"]["derived"] is False
    for row in found["models"]:
        own = row["robustness"]
        assert list(own["corruptions"]) == ["fog", "gaussian-noise"]
        means = [each["mean"] for each in own["corruptions"].values()]
        assert own["mean"] == pytest.approx(sum(means) / 2)
        assert all(len(each["scores"]) == 2 for each in own["corruptions"].values())
    assert found["models"][0]["robustness"]["mce"] == 1


def test_representations(found):
    similarity = found["models"][1]["similarity"]
    places = [layer["place"] for layer in similarity["layers"]]
    assert "conv1" in places
    assert not any(place.startswith("layer2.1") for place in places)
    assert 0 < similarity["output"]["cka"] < 1


def test_it_can_be_written_as_json(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_same_seed_gives_the_same_numbers(programs):
    how = {"corruptions": ["snow"], "severities": (3,), "seconds": 0, "similarity": "none"}
    task = resolve("digits")
    one, same, other = (evaluate(programs, task, Evaluation(seed=seed, **how)) for seed in (0, 0, 1))
    assert one == same
    assert one["models"][0]["robustness"]["corruptions"] != other["models"][0]["robustness"]["corruptions"]


def test_what_is_not_asked_for_is_left_out(programs):
    how = Evaluation(corruptions=(), similarity="none", seconds=0, examples=100)
    found = evaluate(programs, resolve("digits"), how)
    for row in found["models"]:
        assert row["robustness"] is row["similarity"] is row["latency_ms"] is row["energy"] is None
        assert row["shifted"] == {}
        assert row["score"]["n"] == 128  # two batches of 64
    assert found["left_out"] == {}


def test_a_model_of_no_images_says_so():
    model = nn.Linear(4, 2)
    program = sp.capture(model, (torch.randn(2, 4),))
    data = [(torch.randn(8, 4), torch.zeros(8).long())]
    task = sp.LoaderTask(data, data, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
    found = evaluate({"it": program}, task, Evaluation(corruptions=["fog"], seconds=0))
    assert found["left_out"] == {"fog": "the model gets float32 [8, 4], which are no images"}
    assert found["models"][0]["robustness"] is None
    assert found["models"][0]["score"]["name"] == "negative loss"


def test_a_fixed_batch(programs):
    model = nn.Linear(4, 2)
    program = sp.capture(model, (torch.randn(2, 4),), dynamic_batch=False)
    data = [(torch.randn(2, 4), torch.zeros(2).long())] * 3
    task = sp.LoaderTask(data, data, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
    found = evaluate({"it": program}, task, Evaluation(corruptions=(), seconds=0.01, threads=1))["models"][0]
    assert found["macs"] == 16  # of both examples, as everywhere
    assert found["arithmetic_joules"] == pytest.approx(1000 * 8 * 4.6e-12)
    assert found["latency_ms"]["batch"] == 2
    with pytest.raises(UsageError, match="it is captured for a batch size of 2 only: leave --batch out"):
        evaluate({"it": program}, task, Evaluation(corruptions=(), batch=3))
    any_size = sp.capture(model, (torch.randn(2, 4),))
    both = evaluate({"any": any_size, "it": program}, task, Evaluation(corruptions=(), seconds=0.01, threads=1))
    assert (both["batch"], both["macs_batch"]) == (2, 2)
    assert [row["macs"] for row in both["models"]] == [16, 16]
    assert [row["latency_ms"]["batch"] for row in both["models"]] == [2, 2]


def test_masks_are_told(programs):
    masked = sp.run(programs["dense"], ["weight-prune:sparsity=0.5"]).program
    how = Evaluation(corruptions=(), similarity="none", seconds=0, examples=64)
    found = evaluate({"dense": programs["dense"], "masked": masked}, resolve("digits"), how)
    assert [row["masked"] for row in found["models"]] == [False, True]


def test_the_number_of_threads_stays_as_it_was(programs):
    before = torch.get_num_threads()
    how = Evaluation(corruptions=(), similarity="none", seconds=0.01, threads=before + 1)
    found = evaluate(programs, resolve("digits"), how)
    assert found["models"][0]["latency_ms"]["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_no_model_at_all():
    with pytest.raises(UsageError, match="no model to evaluate"):
        evaluate({}, resolve("digits"))
