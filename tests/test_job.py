import functools
import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.command import example, measure_briefly, small_resnet, sparsify, write_model
from safetensors.torch import load_file

import sparsify as sp
from sparsify import artefacts, job, speedup
from sparsify.errors import ExportError, InputError, UsageError
from sparsify.job import Job
from sparsify.recipe import Recipe
from sparsify.report.history import read_history

WHOLE = (
    *("--pass", "layer-prune:count=2,criterion=oracle", "--task", "digits", "--retrain", "fine-tune:steps=5it"),
    *("-o", "small.onnx", "-o", "small.pt2", "-o", "small.safetensors", "--report", "report.json", "--seed", "3"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("job"))


def test_a_job_without_outputs_is_a_report(model):
    stages = []
    report = Job(model, Recipe(("layer-prune:count=1,criterion=magnitude",)), stage=stages.append).run()
    assert report["recipe"] == {"passes": ["layer-prune:count=1"], "seed": 0}
    assert report["model"] == str(model)
    assert report["artefacts"] == []
    assert report["latency"] is None
    assert report["seconds"] >= report["load_seconds"] > 0
    assert json.loads(json.dumps(report)) == report
    assert stages == [f"loading {model}", "running passes"]


def test_state_dict_and_report_are_written(model, tmp_path):
    outputs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    report = Job(model, Recipe(("layer-prune",)), outputs, [tmp_path / "r.json"]).run()
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert [(item["path"], item["bytes"]) for item in report["artefacts"]] == [
        (str(path), path.stat().st_size) for path in outputs
    ]
    assert json.loads((tmp_path / "r.json").read_text()) == report
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors", "r.json"]


@pytest.mark.parametrize(
    ("recipe", "max_drop", "message"),
    [
        (Recipe(("layer-prun",)), None, "There is no pass 'layer-prun'"),
        (Recipe(retrain="fine-tune"), None, "--retrain needs data and a loss"),
        (Recipe(retrain="fine-tune:steps=x", task="digits"), None, "'x' is not a number of steps"),
        (Recipe(("layer-prune",)), 0.1, "--max-drop compares scores"),
        (Recipe(("layer-prune",), task="nothing"), None, "no built-in task 'nothing'"),
    ],
)
def test_what_is_wrong_fails_before_the_model_is_read(recipe, max_drop, message):
    with pytest.raises(UsageError, match=message):
        Job(Path("this file is never opened.pt"), recipe, max_drop=max_drop).run()


@pytest.mark.parametrize("broken", ["save_state", "write_reports"])
def test_a_run_that_fails_keeps_the_old_files(model, tmp_path, monkeypatch, broken):
    output, report = tmp_path / "old.safetensors", tmp_path / "old.json"
    output.write_bytes(b"old")
    report.write_bytes(b"old")

    def fail(*arguments, **options):
        raise InputError("The disk is full.")

    monkeypatch.setattr(artefacts if broken == "save_state" else job, broken, fail)
    with pytest.raises(InputError):
        Job(model, Recipe(("layer-prune",)), [output], [report]).run()
    assert report.read_bytes() == b"old"
    assert (output.read_bytes() == b"old") == (broken == "save_state")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.json", "old.safetensors"]


def test_latency_is_measured_beside_the_model_before(model, tmp_path, monkeypatch):
    measured = []

    def fake(before, after, file, seconds):
        measured.append((len(before.parameters) > len(after.parameters), file, seconds))
        return {"speed": {"ratio": 1.5, "low": 1.4, "high": 1.6}, "after": {"batch": 1}}

    monkeypatch.setattr(job, "speedup", fake)
    monkeypatch.setattr(artefacts, "export_onnx", lambda program, path, **options: {"bytes": 10})
    report = Job(model, Recipe(("layer-prune",)), [tmp_path / "a.onnx", tmp_path / "b.onnx"]).run()
    assert measured == [(True, tmp_path / "a.onnx", 2.0)]
    assert report["latency"]["speed"]["ratio"] == 1.5
    assert report["gates"] == []


@pytest.fixture(scope="module")
def folder(model):
    """Where the commands run."""
    return model.parent


@pytest.fixture(scope="module")
def ran(folder):
    """The whole job by the command, twice: as written, and as its last line says, in JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        measure_briefly(patch)
        digest = hashlib.sha256((folder / "model.pt2").read_bytes()).digest()
        first = sparsify("model.pt2", *WHOLE)
        files = {path.name: path.read_bytes() for path in folder.glob("small.*")}
        again = first.out.splitlines()[-1].removeprefix("again: ")
        second = sparsify(*shlex.split(again)[1:], "--json")
        assert hashlib.sha256((folder / "model.pt2").read_bytes()).digest() == digest
    return first, second, files


def initializers(data):
    model = onnx.load_from_string(data)
    return {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}


def test_the_whole_job_succeeds_and_says_what_changed(ran):
    first, _, _ = ran
    assert (first.status, first.err) == (0, "")
    assert "layer-prune:count=2,criterion=oracle: removed layer" in first.out
    labels = [line.split("  ")[0] for line in first.out.splitlines()]
    rows = {"parameters", "non-zeros", "MACs (batch 1)", "ONNX file", "latency", "accuracy, after passes"}
    assert rows <= set(labels)
    for name in ("small.onnx", "small.pt2", "small.safetensors", "report.json", "small.log.jsonl"):
        assert f"wrote {name}" in first.out


def test_the_model_that_is_written_is_smaller_and_runs(ran, folder):
    _, _, files = ran
    values = sum(value.size for value in initializers(files["small.onnx"]).values())
    assert values < sum(value.numel() for value in small_resnet().parameters())
    session = onnxruntime.InferenceSession(files["small.onnx"])
    images = np.concatenate([example().numpy()] * 3)
    (found,) = session.run(None, {"images": images})
    with torch.no_grad():
        expected = sp.load(folder / "small.pt2").module()(torch.from_numpy(images))
    assert found.shape == (6, 10)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)  # another runtime rounds


def test_a_retraining_without_a_folder_has_its_log_beside_the_first_file(ran, folder):
    history = read_history(folder / "small.log.jsonl")
    assert (history.name, history.method) == ("small", "fine-tune:steps=5it")
    assert [step["step"] for step in history.steps["fine-tune"]] == [1, 2, 3, 4, 5]
    assert json.loads(ran[1].out)["log"] == "small.log.jsonl"


@pytest.mark.parametrize(
    ("words", "log"), [(["--report", "out/r.json"], "out/r.log.jsonl"), ([], "model.log.jsonl"), (["--work", "w"], "")]
)
def test_a_retraining_that_writes_no_model_has_a_log_too(model, tmp_path, monkeypatch, words, log):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    ran = sparsify(str(model), "--task", "digits", "--retrain", "fine-tune:steps=1it", *words)
    assert ran.status == 0
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.log.jsonl")] == [log] * bool(log)
    assert (f"wrote {log}" in ran.out) == bool(log)


@pytest.mark.parametrize("broken", ["execute", "save_state", "write_reports"])
def test_a_retraining_that_fails_keeps_the_log_of_an_earlier_one(model, tmp_path, monkeypatch, broken):
    recipe, output = Recipe(retrain="fine-tune:steps=1it", task="digits"), tmp_path / "small.safetensors"
    ran = Job(model, recipe, [output], [tmp_path / "r.json"])
    assert ran.run()["log"] == str(tmp_path / "small.log.jsonl")
    assert not (tmp_path / "small.running.log.jsonl").exists()
    old = (tmp_path / "small.log.jsonl").read_bytes()

    def fail(*arguments, **options):
        raise InputError("The disk is full.")

    monkeypatch.setattr(artefacts if broken == "save_state" else job, broken, fail)
    with pytest.raises(InputError, match="disk is full"):
        ran.run()
    assert (tmp_path / "small.log.jsonl").read_bytes() == old
    assert (tmp_path / "small.running.log.jsonl").exists()


def test_every_format_holds_the_same_weights(ran, folder):
    loaded = sp.load(folder / "small.pt2")
    assert (folder / "small.safetensors").read_bytes() == ran[2]["small.safetensors"]
    state = load_file(folder / "small.safetensors")
    assert set(loaded.parameters) <= set(state)
    assert all(torch.equal(value, state[name]) for name, value in loaded.parameters.items())


def test_the_line_again_gives_the_same_files(ran, folder):
    _, second, files = ran
    assert second.status == 0
    old, new = initializers(files["small.onnx"]), initializers((folder / "small.onnx").read_bytes())
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[name], new[name]) for name in old)


def test_json_is_the_report_and_nothing_else(ran, folder):
    _, second, _ = ran
    report = json.loads(second.out)
    assert report == json.loads((folder / "report.json").read_text())
    assert report["recipe"] == {
        "passes": ["layer-prune:count=2,criterion=oracle"],
        "retrain": "fine-tune:steps=5it",
        "task": "digits",
        "seed": 3,
    }
    assert report["schema"] == 1
    assert f"again: {report['command']}" == ran[0].out.splitlines()[-1]
    assert report["gates"] == []
    assert report["latency"]["speed"]["verdict"] in ("faster", "slower", "within noise")
    assert report["latency"]["bytes"] == report["artefacts"][0]["bytes"]
    assert list(report["scores"]) == ["before", "pruned", "after"]
    assert [artefact["path"] for artefact in report["artefacts"]] == ["small.onnx", "small.pt2", "small.safetensors"]
    assert report["after"]["parameters"] < report["before"]["parameters"]
    assert second.err == ""


def test_the_file_says_how_it_was_made(ran):
    _, second, files = ran
    properties = {item.key: item.value for item in onnx.load_from_string(files["small.onnx"]).metadata_props}
    assert json.loads(properties["sparsify.recipe"]) == json.loads(second.out)["recipe"]
    assert json.loads(properties["sparsify.passes"]) == ["layer-prune:count=2,criterion=oracle"]
    assert properties["sparsify.version"] == sp.__version__


def test_a_dense_model_that_cannot_be_written_costs_only_the_comparison(model, tmp_path, monkeypatch):
    small = tmp_path / "small.onnx"

    def export(program, path, **options):
        raise ExportError("No such operator.")

    monkeypatch.setattr(speedup, "export_onnx", export)
    report = Job(model, Recipe(("layer-prune:count=3",)), [small]).run()
    assert small.exists()
    assert report["latency"] is None
    assert report["notes"] == [
        "There is no latency to compare with: the model before cannot be written as ONNX. No such operator."
    ]


def test_what_no_onnx_file_holds_is_refused_before_anything_runs(tmp_path):
    half = sp.capture(torch.nn.Linear(4, 4).bfloat16(), (torch.randn(2, 4).bfloat16(),))
    sp.save(half, tmp_path / "half.pt2")
    ran = functools.partial(Job, tmp_path / "half.pt2", Recipe(("weight-prune:sparsity=0.5",)), observer=pytest.fail)
    with pytest.raises(InputError, match=r"small\.onnx: onnxruntime has no bfloat16 on the CPU"):
        ran([tmp_path / "small.onnx"]).run()
    with pytest.raises(InputError, match=r"--min-speedup measures ONNX: onnxruntime has no bfloat16"):
        ran([tmp_path / "small.pt2"], min_speedup=1.5).run()


def test_onnx_files_of_sparse_layers_are_said_to_be_dense(model, tmp_path, monkeypatch):
    measure_briefly(monkeypatch)
    recipe = Recipe(("weight-prune:sparsity=0.9,scope=layer", "lower-index"))
    notes = {}
    for name in ("a.onnx", "a.pt2"):
        notes[name] = Job(model, recipe, [tmp_path / name]).run()["notes"]
    assert any("ONNX files have dense layers" in note for note in notes["a.onnx"])
    assert not any("ONNX" in note for note in notes["a.pt2"])
