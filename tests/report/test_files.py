import json

import jsonschema
import pytest
from helpers.command import small_program, sparsify, unmeasured, write_model
from helpers.reports import report

import sparsify as sp
from sparsify.errors import InputError, UsageError
from sparsify.layer_table import layer_table
from sparsify.report import files
from sparsify.report.files import check_reports, write_json, write_reports

SCHEMA = json.loads((files.HERE / "schema.json").read_text("utf-8"))
RUNS = {
    "nothing but a report": ["--pass", "layer-prune"],
    "sparse weights": ["--pass", "weight-prune:sparsity=0.5", "--pass", "reconstruct", "-o", "a.safetensors"],
    "channels, ONNX and gates": [
        "--pass", "channel-prune:sparsity=0.5", "--pass", "shrink", "-o", "a.onnx", "--max-size", "1MB",
        "--task", "digits", "--max-drop", "1",
    ],
    "not verified": ["--pass", "layer-prune", "--no-verify"],
    "a retraining": ["--task", "digits", "--retrain", "fine-tune:steps=1it", "-o", "a.pt2", "-o", "a.pt"],
    "a lottery": ["--task", "digits", "--retrain", "lth:rounds=1,steps=1it,controls=random", "-o", "a.ticket"],
    "frozen": ["--task", "digits", "--retrain", "freeze:sparsity=0.9,steps=1it"],
}  # fmt: skip


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("run", RUNS)
def test_reports_are_as_the_schema_says(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    if run != "channels, ONNX and gates":  # measured once
        unmeasured(monkeypatch)
    ran = sparsify(write_model(tmp_path), *RUNS[run], "--report", "r.json", "--report", "r.html", "--json")
    assert ran.status == 0, ran.err
    found = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    assert json.loads(ran.out) == found
    assert found["command"] in (tmp_path / "r.html").read_text().replace("&#39;", "'")


def test_a_failed_gate_is_in_both_and_the_schema(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unmeasured(monkeypatch)
    words = ["--pass", "layer-prune", "-o", "a.pt2", "--max-size", "1kB", "--report", "r.json", "--report", "r.html"]
    assert sparsify(write_model(tmp_path), *words).status == 1
    found = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    assert [gate["passed"] for gate in found["gates"]] == [False]
    assert "failed" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    "broken", [{"schema": 2}, {"seed": "0"}, {"unknown": 1}, {"gates": [{"gate": "x"}]}, {"before": {}}]
)
def test_the_schema_refuses_what_is_wrong(broken):
    made = {**report(), "recipe": {}, "log": None}
    jsonschema.validate(made, SCHEMA, jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**made, **broken}, SCHEMA, jsonschema.Draft202012Validator)


def test_endings_and_folders_are_checked_before_any_work(tmp_path):
    check_reports([tmp_path / "r.json", tmp_path / "r.html"])
    with pytest.raises(UsageError, match=r"r\.yaml: a report is written as \.json, for programs, or as \.html"):
        check_reports([tmp_path / "r.yaml"])
    with pytest.raises(InputError, match="does not exist"):
        check_reports([tmp_path / "no" / "r.json"])


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "r.json"
    write_json(path, {"a": [1]})
    assert path.read_text() == '{\n  "a": [\n    1\n  ]\n}\n'
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [1]}


def test_every_file_gets_what_its_ending_says(tmp_path):
    program = small_program()
    made = {**report(), **sp.run(program, []).report, "layers": layer_table(program, program).as_dict()}
    write_reports([tmp_path / "a.json", tmp_path / "a.html"], made, program, program)
    assert json.loads((tmp_path / "a.json").read_text())["layers"] == made["layers"]
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
