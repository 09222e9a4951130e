"""The GitHub Action: action.yml keeps the rules of composite actions, and its steps do what they say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from helpers.command import write_model

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / ".github" / "action" / "run.py"
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@pytest.fixture(scope="module")
def action():
    return yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))


def expressions(part):
    """Return what stands between ${{ and }} anywhere in a part of the file."""
    return EXPRESSION.findall(yaml.safe_dump(part, width=10_000))


def test_it_has_what_github_requires(action):
    """https://docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax"""
    assert action.keys() <= {"name", "description", "author", "branding", "inputs", "outputs", "runs"}
    assert all(isinstance(action[key], str) and action[key] for key in ("name", "description"))
    assert action["runs"].keys() == {"using", "steps"}
    assert action["runs"]["using"] == "composite"
    for name, entry in action["inputs"].items():
        assert re.fullmatch(r"[A-Za-z_][\w-]*", name)
        assert entry.keys() <= {"description", "required", "default", "deprecationMessage"}
        assert isinstance(entry["description"], str)
        assert entry.get("required", False) is not ("default" in entry)
        assert isinstance(entry.get("default", ""), str)
    for entry in action["outputs"].values():
        assert entry.keys() == {"description", "value"}


def test_steps_are_those_of_composite_actions(action):
    allowed = {"name", "id", "if", "shell", "run", "env", "uses", "with", "working-directory", "continue-on-error"}
    for step in action["runs"]["steps"]:
        assert step.keys() <= allowed
        assert ("run" in step) != ("uses" in step)
        assert ("run" in step) == ("shell" in step)
        assert all(isinstance(value, str) for value in step.get("env", {}).values())
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))


def test_what_is_used_is_declared_and_what_is_declared_is_used(action):
    used = [re.fullmatch(r"inputs\.([\w-]+)", text) for text in expressions(action["runs"])]
    assert {match[1] for match in used if match} == set(action["inputs"])
    others = [text for text, match in zip(expressions(action["runs"]), used, strict=True) if not match]
    assert set(others) == {"github.action_path"}
    ids = {step.get("id") for step in action["runs"]["steps"]}
    for name, entry in action["outputs"].items():
        (text,) = expressions(entry)
        match = re.fullmatch(r"steps\.(\w+)\.outputs\.([\w-]+)", text)
        assert match[1] in ids
        assert match[2] == name


def test_no_input_is_part_of_a_script(action):
    assert [step["run"] for step in action["runs"]["steps"] if "${{" in step.get("run", "")] == []


def test_every_variable_is_read(action):
    (env,) = [step["env"] for step in action["runs"]["steps"] if step.get("id") == "run"]
    space = {"__name__": "run"}
    exec(compile(SCRIPT.read_text("utf-8"), str(SCRIPT), "exec"), space)
    read = {"model", "junit", "arguments", *space["SINGLE"], *space["LINES"]}
    passed = {name.removeprefix("SPARSIFY_").lower().replace("_", "-") for name in env if name.startswith("SPARSIFY_")}
    assert read == passed
    assert all(env[f"SPARSIFY_{name.upper().replace('-', '_')}"] == f"${{{{ inputs.{name} }}}}" for name in read)


@pytest.mark.parametrize(("given", "asked"), [
    ({}, "/somewhere/a b[data]"),
    ({"EXTRAS": ""}, "/somewhere/a b"),
    ({"REQUIREMENT": "sparsify-fx==0.1.0; $(touch injected)"}, "sparsify-fx==0.1.0; $(touch injected)"),
])  # fmt: skip
def test_the_install_step_asks_pip_for_one_thing(action, tmp_path, given, asked):
    (step,) = [step for step in action["runs"]["steps"] if step.get("name") == "Install sparsify"]
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > asked\n')
    (tmp_path / "python").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ACTION_PATH": "/somewhere/a b", "EXTRAS": "data", **given}
    subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd=tmp_path, env=env, check=True)
    words = (tmp_path / "asked").read_text().splitlines()
    assert words[:3] == ["-m", "pip", "install"]
    assert words[-4:] == ["-c", "/somewhere/a b/constraints.txt", "--", asked]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked", "python"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("action")
    write_model(folder)
    return folder


def act(folder, **inputs):
    """Run the script as the action does; return status, summary, outputs and what was printed."""
    files = {name: folder / f"{name}.txt" for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for path in files.values():
        path.write_text("")
    given = {f"SPARSIFY_{name.upper()}": value for name, value in inputs.items()}
    env = {**os.environ, **{name: str(path) for name, path in files.items()}, **given}
    ran = subprocess.run([sys.executable, SCRIPT], cwd=folder, env=env, capture_output=True, text=True, check=False)
    summary, outputs = (path.read_text("utf-8") for path in files.values())
    found = re.findall(r"^(\w+)<<(\S+)\n(.*?)\n\2$", outputs, re.MULTILINE | re.DOTALL)
    outputs = {name: value for name, _, value in found}
    return SimpleNamespace(status=ran.returncode, summary=summary, outputs=outputs, out=ran.stdout, err=ran.stderr)


def test_a_run_that_passes(work):
    ran = act(work, model="model.pt2", passes="\nlayer-prune:count=1\n  weight-prune:sparsity=0.5  \n", task="digits",
              output="a b.safetensors\n", max_drop="1", max_size="1MB", report="r.json", junit="j.xml",
              arguments="--seed 2 -o 'c d.pt'")  # fmt: skip
    assert (ran.status, ran.err) == (0, "")
    assert ran.outputs == {"status": "0", "report": "r.json", "junit": "j.xml"}
    assert ran.summary.startswith("### sparsify: model.pt2 - done\n")
    report = json.loads((work / "r.json").read_text())
    assert report["pipeline"] == ["layer-prune:count=1", "weight-prune:sparsity=0.5"]
    assert [item["path"] for item in report["artefacts"]] == ["a b.safetensors", "c d.pt"]
    assert all((work / item["path"]).is_file() for item in report["artefacts"])
    parameters = report["before"]["parameters"], report["after"]["parameters"]
    assert f"| parameters | {parameters[0]:,} | {parameters[1]:,} | -" in ran.summary
    assert "| --max-drop 1: accuracy | " in ran.summary
    assert ran.summary.count("| passed |") == 3
    assert "again: " in ran.out


def test_a_gate_that_fails_is_1_with_a_summary(work):
    ran = act(work, model="model.pt2", passes="layer-prune", output="gated.safetensors", max_size="1kB",
              report="gated.json", junit="gated.xml")  # fmt: skip
    assert ran.status == 1
    assert ran.outputs == {"status": "1", "report": "gated.json", "junit": "gated.xml"}
    assert ran.summary.startswith("### sparsify: model.pt2 - a gate failed\n")
    assert "| --max-size 1kB: gated.safetensors | " in ran.summary
    assert "too many | FAILED |" in ran.summary
    assert ran.out.splitlines()[-1].startswith("::error title=sparsify::sparsify: A gate failed. --max-size 1kB: ")
    assert not (work / "gated.safetensors").exists()


def test_wrong_use_is_2_and_takes_no_older_report_for_its_own(work):
    (work / "old.json").write_text('{"model": "another"}')
    ran = act(work, model="model.pt2", passes="layer-prune:count=50", report="old.json")
    assert ran.status == 2
    assert ran.outputs == {"status": "2", "report": "", "junit": ""}
    assert ran.summary.startswith("### sparsify - wrong use, or a bad file\n\n<pre>sparsify: ")
    assert "only 3 of 4 blocks are removable" in ran.summary
    assert "another" not in ran.summary


def test_nothing_in_an_input_is_run_or_breaks_out(work):
    before = sorted(work.iterdir())
    ran = act(work, model="-x`touch injected`.pt2", passes="$(touch injected)\n; touch injected", output="--help")
    assert ran.status == 2
    assert "touch injected" in ran.out
    assert {path.name for path in work.iterdir()} - {path.name for path in before} <= {
        "GITHUB_OUTPUT.txt", "GITHUB_STEP_SUMMARY.txt",
    }  # fmt: skip


def test_text_of_a_report_is_no_markdown():
    space = {"__name__": "run"}
    exec(compile(SCRIPT.read_text("utf-8"), str(SCRIPT), "exec"), space)
    assert space["cell"]("a|b\n<img src=x> [c](d)") == r"a\|b &lt;img src=x&gt; \[c\](d)"
    assert space["table"](["", "x"], [["a", 1]]) == ["|  | x |", "| --- | ---: |", "| a | 1 |"]
    speed = {"ratio": 1.5, "low": 1.4, "high": 1.6, "verdict": "faster"}
    report = {
        "before": {"parameters": 10, "nonzero": 10, "macs": 0},
        "after": {"parameters": 5, "nonzero": 4, "macs": 0},
        "latency": {"before": {"median": 2.0}, "after": {"median": 1.0}, "dense_bytes": 100, "bytes": 50,
                    "speed": speed},
    }  # fmt: skip
    assert space["changes"](report) == [
        ["parameters", "10", "5", "-50.0%"],
        ["non-zeros", "10", "4", "-60.0%"],
        ["MACs", "0", "0", ""],
        ["ONNX file, bytes", "100", "50", "-50.0%"],
        ["latency", "2 ms", "1 ms", "1.50x, 99% interval 1.40-1.60 (faster)"],
    ]
