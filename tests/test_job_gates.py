"""Gates of the main command: what is judged, and what is there afterwards."""

import json
import shlex
from xml.etree import ElementTree

import onnxruntime
import pytest
import torch
from helpers.command import example, measure_briefly, small_program, sparsify, write_model
from transformers import LlamaConfig, LlamaForCausalLM

import sparsify as sp
from sparsify import artefacts, job, speedup
from sparsify.errors import ExportError, GateError
from sparsify.export import storage
from sparsify.job import Job
from sparsify.recipe import Recipe

PRUNE = Recipe(("layer-prune:count=3",), task="digits")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """Speeds are 1.5x, give or take 0.1; what was measured with how much time."""
    found = []

    def fake(before, after, file, seconds):
        found.append((None if file is None else file.name, seconds))
        speed = {"ratio": 1.5, "low": 1.4, "high": 1.6, "verdict": "faster"}
        side = {"median": 1.0, "low": 1.0, "high": 1.0, "runs": 3, "threads": 1, "batch": 1}
        return {"before": side, "after": side, "dense_bytes": 4096, "bytes": 1024, "speed": speed}

    monkeypatch.setattr(job, "speedup", fake)
    return found


def refused(ran):
    """Run a job, whose gates must refuse; return the error and the verdicts by gate."""
    with pytest.raises(GateError) as caught:
        ran.run()
    return caught.value, {gate["gate"]: gate["passed"] for gate in caught.value.report["gates"]}


@pytest.mark.parametrize(("gate", "passes", "fails"), [
    ("max_drop", 1.0, -1.0), ("min_speedup", 1.45, 1.55), ("max_size", "1MB", "1kB"),
])  # fmt: skip
def test_each_gate_passes_and_fails(model, tmp_path, gate, passes, fails):
    target = tmp_path / "small.safetensors"
    error, verdicts = refused(Job(model, PRUNE, [target], **{gate: fails}))
    assert list(verdicts.values()) == [False]
    assert str(error).startswith(f"A gate failed. --{gate.replace('_', '-')} {fails:g}:" if gate != "max_size" else
                                 f"A gate failed. --max-size {fails}: {target}: ")  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    (found,) = Job(model, PRUNE, [target], **{gate: passes}).run()["gates"]
    assert found["passed"]
    assert [path.name for path in tmp_path.iterdir()] == ["small.safetensors"]


def test_all_gates_are_judged_and_all_that_failed_are_named(model, tmp_path):
    outputs = [tmp_path / "a.onnx", tmp_path / "a.safetensors"]
    files = {"reports": [tmp_path / "r.json"], "junit": tmp_path / "j.xml"}
    error, verdicts = refused(Job(model, PRUNE, outputs, max_drop=-1, min_speedup=1.4, max_size="3kB", **files))
    sizes = {f"--max-size 3kB: {path}": False for path in outputs}
    speed = f"--min-speedup 1.4: {outputs[0]}, batch 1"
    assert verdicts == {"--max-drop -1: accuracy": False, speed: True, **sizes}
    assert str(error).startswith("3 gates failed. --max-drop -1: accuracy: ")
    assert str(error).endswith("too many. No output was written.")
    report = json.loads(files["reports"][0].read_text())
    assert report == error.report
    assert (report["artefacts"], report["log"], report["latency"]["bytes"]) == ([], None, 1024)
    suite = ElementTree.fromstring(files["junit"].read_text())
    assert (suite.get("tests"), suite.get("failures")) == ("4", "3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j.xml", "r.json"]


def test_junit_and_report_are_there_when_all_pass(model, tmp_path):
    files = {"reports": [tmp_path / "r.json"], "junit": tmp_path / "j.xml"}
    report = Job(model, PRUNE, [tmp_path / "a.safetensors"], max_size="1MB", **files).run()
    assert json.loads(files["reports"][0].read_text()) == report
    assert ElementTree.fromstring(files["junit"].read_text()).get("failures") == "0"


def test_a_score_that_fell_too_much_costs_no_export_unless_another_gate_asks(model, tmp_path, monkeypatch, measured):
    written = []
    monkeypatch.setattr(artefacts, "export_onnx", lambda program, path, **_: written.append(path.name) or {"bytes": 9})
    refused(Job(model, PRUNE, [tmp_path / "a.onnx"], max_drop=-1))
    assert (written, measured) == ([], [])
    refused(Job(model, PRUNE, [tmp_path / "a.onnx"], max_drop=-1, max_size="1kB"))
    assert (written, measured) == (["a.onnx"], [("a.onnx", 2.0)])


def test_a_gate_of_speed_takes_more_time_and_needs_no_onnx_file(model, measured):
    assert Job(model, PRUNE, min_speedup=1.2).run()["gates"][0]["gate"] == "--min-speedup 1.2: ONNX, batch 1"
    assert measured == [(None, 10.0)]


def test_a_speed_is_really_measured(model, monkeypatch):
    monkeypatch.setattr(job, "speedup", speedup.speedup)
    measure_briefly(monkeypatch)
    report = Job(model, PRUNE, min_speedup=0.01).run()
    assert report["latency"]["speed"]["ratio"] > 0.01
    assert "99% interval" in report["gates"][0]["text"]
    error, _ = refused(Job(model, PRUNE, min_speedup=1e6))
    assert "are missing" in str(error)


def test_what_cannot_be_measured_passes_no_gate(model, tmp_path, monkeypatch):
    def fail(program, path):
        raise ExportError("No such operator.")

    monkeypatch.setattr(job, "speedup", speedup.speedup)
    monkeypatch.setattr(speedup, "export_onnx", fail)
    error, _ = refused(Job(model, PRUNE, [tmp_path / "a.onnx"], min_speedup=0.1))
    assert "not measured: the model before cannot be written as ONNX. No such operator. No output" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_when_a_gate_fails_and_goes_when_it_passes(model, tmp_path):
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"old")
    target.chmod(0o640)
    refused(Job(model, PRUNE, [target], max_size="1B"))
    assert target.read_bytes() == b"old"
    Job(model, PRUNE, [target], max_size="1MB").run()
    assert len(target.read_bytes()) > 1000
    assert target.stat().st_mode & 0o777 == 0o640


def test_weights_beside_a_model_are_staged_with_it(model, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_LIMIT", 1_000)
    target = tmp_path / "a.onnx"
    refused(Job(model, PRUNE, [target], max_size="1kB"))
    assert list(tmp_path.iterdir()) == []
    report = Job(model, PRUNE, [target], max_size="1MB").run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]
    assert report["artefacts"][0]["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    session = onnxruntime.InferenceSession(target)
    assert session.run(None, {"images": example().numpy()})[0].shape == (2, 10)
    monkeypatch.setattr(storage, "_LIMIT", 10**6)
    Job(model, PRUNE, [target], max_size="1MB").run()  # what is beside the replaced model goes with it
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_folders_are_staged(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    (tmp_path / "out").mkdir()
    recipe, target = Recipe(("layer-prune:count=1",)), tmp_path / "out" / "small"
    refused(Job(tmp_path / "llama", recipe, [target], max_size="1kB"))
    assert list((tmp_path / "out").iterdir()) == []
    (found,) = Job(tmp_path / "llama", recipe, [target], max_size="1MB").run()["artefacts"]
    assert found["bytes"] == sum(path.stat().st_size for path in target.iterdir())
    assert LlamaForCausalLM.from_pretrained(target).config.num_hidden_layers == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["small"]


def test_a_gate_keeps_the_log_of_an_earlier_run(model, tmp_path):
    recipe = Recipe(retrain="fine-tune:steps=1it", task="digits")
    (tmp_path / "a.log.jsonl").write_text("old")
    refused(Job(model, recipe, [tmp_path / "a.safetensors"], max_drop=-1))
    assert (tmp_path / "a.log.jsonl").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log.jsonl", "a.running.log.jsonl"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ExportError])
def test_nothing_is_left_when_a_later_output_fails(model, tmp_path, monkeypatch, error):
    def fail(*given, **options):
        raise error("Stopped.")

    monkeypatch.setattr(artefacts, "save_state", fail)
    with pytest.raises(error):
        Job(model, PRUNE, [tmp_path / "a.pt", tmp_path / "a.safetensors"], max_size="1MB").run()
    assert list(tmp_path.iterdir()) == []


def test_without_gates_what_was_written_before_an_error_stays(model, tmp_path, monkeypatch):
    def fail(*given, **options):
        raise ExportError("Stopped.")

    monkeypatch.setattr(artefacts, "save_state", fail)
    with pytest.raises(ExportError):
        Job(model, PRUNE, [tmp_path / "a.pt", tmp_path / "a.safetensors"]).run()
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_errors_name_the_target_and_not_where_it_is_staged(model, tmp_path, monkeypatch):
    def fail(program, path, *given, **options):
        raise ExportError(f"{path}: it reads back different.")

    monkeypatch.setattr(artefacts, "save_state", fail)
    target = tmp_path / "a.safetensors"
    with pytest.raises(ExportError, match=f"^{target}: it reads back different"):
        Job(model, PRUNE, [target], max_size="1MB").run()


COMMANDS = [
    "sparsify model.pt2 --pass layer-prune:count=3 --task digits --seed 2 -o 'a b.safetensors' -o a.pt2 "
    "--report r.json --max-drop 0.0123456789 --min-speedup 1.1 --max-size 1MB --storage packed --junit j.xml",
    "sparsify model.pt2 --pass weight-prune:sparsity=0.5 --retrain fine-tune:steps=1it,compact=yes --task digits "
    "--work w --max-drop 1 --no-verify",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_that_is_printed_is_the_one_that_was_given(model, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    sp.save(small_program(), "model.pt2")
    ran = sparsify(*shlex.split(command)[1:])
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == f"again: {command}"
    if "r.json" in command:
        assert json.loads((tmp_path / "r.json").read_text())["command"] == command


def test_a_command_says_what_the_recipe_does_not_yet(model):
    recipe = Recipe(retrain="fine-tune", task="digits")
    ran = Job(model, recipe, compact=True, trust=True, factory="m:f", device="cuda", trackers=["tensorboard"])
    assert shlex.split(ran.command) == [
        *("sparsify", str(model), "--retrain", "fine-tune", "--task", "digits", "--track", "tensorboard"),
        *("--model", "m:f", "--device", "cuda", "--trust", "--compact"),
    ]
