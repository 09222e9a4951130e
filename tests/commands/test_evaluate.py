import json

import pytest
from helpers.command import sparsify
from helpers.trained import trained_digits

import sparsify as sp

FEW = (
    "--corruptions",
    "gaussian-noise,contrast,saturate",
    "--severities",
    "1,5",
    "--seconds",
    "0.01",
    "--threads",
    "1",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    dense = trained_digits(tmp_path_factory)
    sp.save(dense, folder / "dense.pt2")
    small = sp.run(dense, ["layer-prune:count=2,criterion=magnitude"]).program
    sp.save(small, folder / "small.pt2")
    return folder / "dense.pt2", folder / "small.pt2"


def test_a_trained_network_beside_its_pruned_one(files):
    ran = sparsify("evaluate", *files, "--task", "digits", *FEW, "--meter", "watts", "--watts", "10")
    assert (ran.status, ran.err) == (0, "")
    text = " ".join(ran.out.split())
    for part in (
        "dense.pt2 small.pt2", "accuracy (n = 450)", "corrupted, mean", "relative mCE", "CKA of outputs",
        "parameters", "values in a run", "latency in PyTorch, batch 1", "CO2 / 1,000*", "score by corruption",
        "CKA by layer",
        "Left out: saturate, because the images are grey.", "measured time x 10 W; 475 g/kWh",
    ):  # fmt: skip
        assert part in text, part
    assert max(map(len, ran.out.splitlines())) <= 80


def test_json_has_everything_and_strong_corruptions_hurt(files):
    words = ("--shifted", "again=digits:split_seed=1", "--examples", "200", "--json")
    found = json.loads(sparsify("evaluate", *files, "--task", "digits", *FEW, *words).out)
    dense, small = found["models"]
    assert dense["score"]["value"] > 0.9
    assert dense["score"]["n"] == dense["shifted"]["again"]["n"] == 256
    mild, strong = dense["robustness"]["corruptions"]["contrast"]["scores"]
    assert strong < mild
    assert dense["robustness"]["corruptions"]["gaussian-noise"]["scores"][0] > 0.9
    assert small["parameters"] < dense["parameters"]
    assert 0 < small["similarity"]["output"]["cka"] < 1
    assert small["robustness"]["mce"] > 0
    assert found["seed"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Say what to evaluate, and on which data"),
        (("--task", "digits", "--severities", "0,6"), "--severities 0,6: write numbers from 1 to 5"),
        (("--task", "digits", "--severities", ","), "--severities ,: write numbers"),
        (("--task", "digits", "--examples", "0"), "--examples, --batch and --threads must be at least 1"),
        (("--task", "digits", "--watts", "0"), "--watts must be more than 0"),
        (("--task", "digits", "--grid=-1"), "--grid not negative"),
        (("--task", "digits", "--meter", "rapl", "--watts", "5"), "--watts is for --meter watts; rapl finds"),
        (("--task", "digits", "--country", "FRA"), "--country is for --meter codecarbon"),
        (("--task", "digits", "--corruptions", "rain"), "no corruption 'rain'"),
        (("--task", "digits", "--shifted", "digits"), "--shifted digits: write NAME=TASK"),
        (("--task", "digits", "--shifted", "a=digits", "--shifted", "a=digits"), "two of the name a"),
        (("--task", "digit"), "no built-in task 'digit'"),
    ],
)
def test_wrong_use(files, words, message):
    ran = sparsify("evaluate", *files, *words)
    assert (ran.status, ran.out) == (2, "")
    assert message in " ".join(ran.err.split())


def test_models_must_be_there_and_different(files):
    ran = sparsify("evaluate", files[0], "nothing.pt2", "--task", "digits")
    assert (ran.status, "nothing.pt2 cannot be opened" in ran.err) == (2, True)
    ran = sparsify("evaluate", files[0], files[0], "--task", "digits")
    assert (ran.status, "is given twice" in ran.err) == (2, True)
    ran = sparsify("evaluate", "--task", "digits")
    assert (ran.status, "Say what to evaluate" in ran.err) == (2, True)
