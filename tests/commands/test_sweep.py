"""`sparsify sweep`: each trial once, whatever happens to the recipe; a table, a page, a file of trials."""

import csv
import json

import pytest
from helpers.command import sparsify
from helpers.sweeps import RECIPE, fail_at, write_sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder in which a sweep was run by two processes, and what the command printed."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_sweep(folder)
        return folder, sparsify("sweep", "sweep.yaml", "--jobs", 2)


@pytest.fixture
def folder(swept, monkeypatch):
    monkeypatch.chdir(swept[0])
    return swept[0]


def made(folder):
    """Every report with when it was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("sweep-out/trials/*/report.json")}


def test_two_processes_run_all_trials(swept, folder):
    ran = swept[1]
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split()[:3] for line in lines[3:7]] == [
        ["pruned", "0.5", "2"], ["pruned", "0.8", "2"], ["untrained", "0.5", "2"], ["untrained", "0.8", "2"],
    ]  # fmt: skip
    assert lines[-2:] == ["wrote sweep-out/sweep.html", "wrote sweep-out/sweep.csv"]
    with (folder / "sweep-out" / "sweep.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 8
    assert {line["state"] for line in table} == {"done"}
    page = (folder / "sweep-out" / "sweep.html").read_text("utf-8")
    assert "8 trials: 1 model, 2 methods, 2 sparsities, 2 seeds" in page
    assert all(f"trials/{line['key']}/report.json" in page for line in table)


def test_a_trial_gives_what_its_command_gives(swept, folder):
    with (folder / "sweep-out" / "sweep.csv").open() as file:
        line = next(line for line in csv.DictReader(file) if line["method"] == "untrained")
    ran = sparsify(*line["command"].split()[1:], "--json")
    assert json.loads(ran.out)["score"] == float(line["score"])


def test_nothing_is_run_twice(swept, folder):
    before = made(folder)
    again = sparsify("sweep", "sweep.yaml", "--jobs", 1)
    assert (again.status, again.out) == (0, swept[1].out)
    grown = RECIPE.replace("seeds: 2", "seeds: [1, 0, 2]").replace("  pruned:", "  renamed:")
    (folder / "grown.yaml").write_text(grown)
    planned = sparsify("sweep", "grown.yaml", "--out", "sweep-out", "--dry-run")
    assert planned.out.splitlines()[-1] == "8 of 12 trials done, 4 to run"
    assert made(folder) == before
    ran = sparsify("sweep", "grown.yaml", "--out", "sweep-out", "--jobs", 1, "--json")
    after = made(folder)
    assert len(after) == 12
    assert {key: after[key] for key in before} == before
    told = json.loads(ran.out)
    assert {row["method"]: row["seeds"] for row in told["rows"]} == {"(before)": 1, "renamed": 3, "untrained": 3}
    assert [trial["state"] for trial in told["trials"]] == ["done"] * 12


def test_a_plan_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = sparsify("sweep", write_sweep(tmp_path), "--dry-run")
    assert ran.status == 0
    assert "0 of 8 trials done, 8 to run" in ran.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.yaml", "tiny.pt2"]


def test_trials_that_fail_are_told_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "models: tiny.pt2\nmethods:\n  fine: shrink\n  refuses: layer-prune\nseeds: 1\ntask: digits\n"
    recipe = write_sweep(tmp_path, text)
    for _ in range(2):
        ran = sparsify("sweep", recipe, "--jobs", 1)
        assert ran.status == 1
        assert "1 of 2 trials failed: the folder" in ran.err
        assert "failed: tiny.pt2, refuses, seed 0: layer-prune: The model has no residual block" in ran.out
    assert "The model has no residual block" in next(tmp_path.glob("sweep-out/trials/*/error.txt")).read_text()


def test_an_interruption_writes_what_was_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fail_at(monkeypatch, 1, KeyboardInterrupt())
    recipe = write_sweep(tmp_path, "models: tiny.pt2\nmethods:\n  fine: shrink\nseeds: 2\ntask: digits\n")
    ran = sparsify("sweep", recipe, "--jobs", 1)
    assert ran.status == 130
    assert "Interrupted. The same command goes on; " in ran.err
    with (tmp_path / "sweep-out" / "sweep.csv").open() as file:
        assert [line["state"] for line in csv.DictReader(file)] == ["done", "open"]
    assert "1 of 2 trials done" in (tmp_path / "sweep-out" / "sweep.html").read_text("utf-8")


def test_the_same_again_has_what_decides_the_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path, "models: tiny.pt2\nmethods:\n  fine: shrink\nseeds: 1\ntask: digits\n")
    words = ["sweep", "sweep.yaml", "--out", "here", "--trust", "--threads", "2", "--batch-seeds", "no"]
    assert sparsify(*words, "--jobs", 1).status == 0
    assert f"<pre>sparsify {' '.join(words)}</pre>" in (tmp_path / "here" / "sweep.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("gone.yaml",), "The sweep gone.yaml cannot be read: no such file"),
        (("sweep.yaml", "--jobs", 0), "--jobs and --threads must be positive"),
        (("sweep.yaml", "--batch-seeds", "maybe"), "batch-seeds"),
    ],
)
def test_wrong_use(folder, words, told):
    ran = sparsify("sweep", *words)
    assert ran.status == 2
    assert told in ran.err
