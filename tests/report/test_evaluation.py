import copy
import io

import pytest
from rich.console import Console

from sparsify.report.evaluation import print_evaluation


def model(name, first=False, layers=2):
    corrupted = {"mean": 0.7, "interval": [0.65, 0.75], "scores": [0.7]}
    places = [
        {"place": f"layer{n}", "cka": 0.9, "debiased": n / 100, "exact": n % 2 == 0, "examples": 9, "features": [3, 3]}
        for n in range(layers)
    ]
    output = {"place": "output", "cka": 0.98, "debiased": 0.97, "exact": True, "examples": 9, "features": [3, 3]}
    return {
        "name": name,
        "score": {"name": "accuracy", "value": 0.993, "n": 4500, "interval": [0.981, 0.998]},
        "masked": False,
        "macs": 1000 if first else 750, "parameters": 50, "nonzero": 50, "bytes": 2048, "activation_bytes": 512,
        "similarity": None if first else {"output": output, "layers": places},
        "robustness": {"mean": 0.7, "interval": [0.65, 0.75], "drop": 0.293, "mce": 1.25, "relative_mce": 1.5,
                       "corruptions": {"gaussian-noise": corrupted}},
        "shifted": {"fog": {"name": "accuracy", "value": 0.5, "n": 100, "interval": [0.4, 0.6]}},
        "latency_ms": {"median": 1.5, "batch": 1},
        "speed": None if first else {"ratio": 1.5, "low": 1.4, "high": 1.6},
        "energy": {"joules": 97.5, "co2_grams": 0.0129, "method": "watts", "basis": "measured time x 65 W"},
        "arithmetic_joules": 4.6e-6,
    }  # fmt: skip


def found(*names, **more):
    models = [model(name, first=place == 0) for place, name in enumerate(names)]
    pixels = {"black": [0.0], "white": [1.0], "size": [8, 8], "derived": True}
    left_out = {"saturate": "the images are grey"}
    return {
        "task": "t",
        "seed": 0,
        "macs_batch": 1,
        "severities": [1, 3],
        "left_out": left_out,
        "pixels": pixels,
        "models": models,
        **more,
    }


def printed(value):
    console = Console(file=io.StringIO(), width=80)
    print_evaluation(console, value)
    return console.file.getvalue()


def rows(text):
    return {line.split("  ")[0].strip(): line.split() for line in text.splitlines() if line.strip()}


def test_a_row_for_each_quantity_and_a_column_for_each_model():
    text = printed(found("runs/dense.pt2", "runs/small.pt2"))
    lines = text.splitlines()
    assert lines[0].split() == ["dense.pt2", "small.pt2"]
    for part in (
        "accuracy (n = 4,500)  99.3 (98.1-99.8)  99.3 (98.1-99.8)",
        "fog (n = 100)        50.0 (40.0-60.0)",
        "mCE                             1.250",
        "MACs, batch 1                   1.00k        750 (-25%)",
        "speed (99%)                            1.50x (1.40-1.60)",
        "energy / 1,000*                97.5 J",
        "CO2 / 1,000*                  0.013 g",
        "gaussian-noise       70.0 (65.0-75.0)",
    ):
        assert " ".join(part.split()) in " ".join(text.split()), part
    assert max(map(len, lines)) <= 80


def test_layers_and_how_they_were_compared():
    text = printed(found("a", "b"))
    assert "layer0  0.000" in " ".join(text.split("CKA by layer")[1].split()).replace(" ", "  ")
    assert "0.010~" in text
    assert "debiased CKA by layer" in text  # as the rows of outputs say which is which


def test_what_is_left_out_and_assumed_is_said():
    text = " ".join(printed(found("a", "b")).split())
    assert "Left out: saturate, because the images are grey." in text
    assert "at severities 1, 3; mCE is the error" in text
    assert "The task says no pixel_range" in text
    assert "* Estimates, for 1,000 examples. Energy: measured time x 65 W." in text
    assert "45 nm, Horowitz 2014" in text


def test_an_mce_that_is_not_defined_has_no_row_but_a_reason():
    value = found("a", "b")
    assert "There is no" not in printed(value)
    first = value["models"][0]
    for row in value["models"]:
        row["robustness"].update(relative_mce=None)
    first["robustness"]["corruptions"]["fog"] = {"mean": 0.993, "interval": None, "scores": [0.992, 0.994]}
    value["models"][1]["robustness"]["corruptions"]["fog"] = first["robustness"]["corruptions"]["fog"]
    text = printed(value)
    assert "relative mCE  " not in text
    assert "  mCE " in text
    assert "There is no relative mCE, because the first model loses nothing by fog." in " ".join(text.split())
    for row in value["models"]:
        row["robustness"].update(mce=None)
    first["robustness"]["corruptions"]["fog"]["scores"] = [1.0, 1.0]
    text = printed(value)
    assert "  mCE " not in text
    assert "There is no mCE, because the first model makes no error under fog." in " ".join(text.split())


def test_what_masks_cost_is_said():
    value = found("x/a.pt2", "x/b.pt2")
    assert "masks" not in printed(value)
    value["models"][1]["masked"] = True
    assert "b.pt2 has masks, which every run applies" in " ".join(printed(value).split())


def test_many_models_are_several_tables():
    text = printed(found(*"abcdef"))
    assert text.count("accuracy (n = 4,500)") == 3
    assert max(map(len, text.splitlines())) <= 80
    assert [line.split() for line in text.splitlines() if line.split() in (list("abc"), list("ade"), list("af"))] == [
        list("abc"), list("ade"), list("af"),
    ]  # fmt: skip


def test_files_of_the_same_name_keep_their_folders():
    assert printed(found("x/model.pt2", "y/model.pt2")).split()[:2] == ["x/model.pt2", "y/model.pt2"]


def test_many_layers_show_those_that_differ_most():
    value = found("a", "b")
    value["models"][1]["similarity"]["layers"] = model("b", layers=60)["similarity"]["layers"]
    text = printed(value)
    assert "layer24" in text
    assert "layer25" not in text
    assert "and 35 that are more alike" in text


@pytest.mark.parametrize("key", ["robustness", "latency_ms", "similarity"])
def test_what_was_not_measured_is_not_printed(key):
    value = found("a", "b")
    for row in value["models"]:
        row[key] = None
        if key == "latency_ms":
            row["energy"] = None
    text = printed(value)
    gone = {"robustness": "mCE", "latency_ms": "latency", "similarity": "CKA"}[key]
    assert gone not in text
    assert "MACs" in text


def test_other_scores_are_numbers():
    value = copy.deepcopy(found("a", "b"))
    for row in value["models"]:
        row["score"] = {"name": "negative loss", "value": -1.23456, "n": 10, "interval": None}
        row["robustness"].update(mce=None, relative_mce=None)
    text = printed(value)
    assert "-1.235" in text
    assert "There is no mCE, because the score is no accuracy but negative loss." in " ".join(text.split())
