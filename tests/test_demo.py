import dataclasses
import io
import json
import shlex

import onnxruntime
import pytest
from helpers.command import measure_briefly, small_resnet, sparsify
from rich.console import Console

import sparsify as sp
from sparsify import demo, latency
from sparsify.console import Show
from sparsify.demo import run_demo
from sparsify.errors import InputError


def printed(result, width=80):
    file = io.StringIO()
    result.print(Console(file=file, width=width))
    return file.getvalue()


class Stages(Show):
    """Notes what is shown."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def __call__(self, text):
        self.texts.append(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The demo with a smaller network, one count and hardly any training."""
    folder, stages = tmp_path_factory.mktemp("demo") / "out", Stages()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        patch.setattr(demo, "digits_resnet", lambda seed: small_resnet())
        patch.setattr(demo, "_COUNTS", (2,))
        patch.setattr(demo, "_RETRAIN", "fine-tune:steps=2it")
        patch.setattr(demo, "DIGITS_TRAINING", dataclasses.replace(demo.DIGITS_TRAINING, steps="2it", warmup="0it"))
        patch.setattr(demo, "measure", lambda files, feeds, seconds=0: latency.measure(files, feeds, seconds=0))
        measure_briefly(patch)
        return run_demo(folder, 0, stages), stages.texts


def test_the_files_are_there_and_load(made):
    result, _ = made
    names = sorted(path.name for path in result.folder.iterdir())
    assert names == ["dense.onnx", "model.pt", "report.json", "small-2.log.jsonl", "small-2.onnx"]
    program = sp.load(result.folder / "model.pt")
    assert len(sp.blocks(program)) == 4
    onnxruntime.InferenceSession(result.folder / "small-2.onnx")
    (run,) = json.loads((result.folder / "report.json").read_text())["runs"]
    assert len(run["passes"][0]["removed"]) == 2


def test_the_rows_compare_the_dense_model_with_the_small_one(made):
    dense, small = made[0].rows
    assert (dense.removed, small.removed) == (0, 2)
    assert small.cost.parameters < dense.cost.parameters
    assert small.cost.macs < dense.cost.macs
    assert small.bytes < dense.bytes == (made[0].folder / "dense.onnx").stat().st_size
    assert dense.pruned is None
    assert 0 <= small.pruned <= 1
    assert dense.score["n"] == small.score["n"] == 450


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits(made, width):
    lines = printed(made[0], width).splitlines()
    assert [line for line in lines if len(line.rstrip()) > width and not line.startswith("  sparsify ")] == []
    assert "…" not in printed(made[0], width)
    if width >= 80:
        assert lines[0].split() == ["removed", "MACs", "parameters", "file", "latency", "speed", "pruned", "fine-tuned"]
        assert lines[2].startswith("2 blocks")


def test_the_commands_are_for_repeating(made):
    commands = made[0].commands
    assert all(f"  {command}\n" in printed(made[0]) for command in commands)
    inspect, run, own = (shlex.split(command) for command in commands)
    assert own[:2] == ["sparsify", "YOUR_MODEL.pt"]
    assert run[-1].endswith("small-2.onnx")
    ran = sparsify(*inspect[1:])
    assert ran.status == 0
    assert "4 blocks, 3 removable" in ran.out


def test_the_command_that_was_printed_makes_the_same_file(made, monkeypatch, tmp_path):
    measure_briefly(monkeypatch)
    words = shlex.split(made[0].commands[1])[1:]
    target = tmp_path / "again.safetensors"  # quick to write
    ran = sparsify(*words[:-1], target, "--json")
    assert ran.status == 0
    (first,) = json.loads((made[0].folder / "report.json").read_text())["runs"]
    assert json.loads(ran.out)["passes"][0]["removed"] == first["passes"][0]["removed"]
    assert json.loads(ran.out)["scores"] == first["scores"]


def test_what_happens_is_told(made):
    stages = made[1]
    assert stages[0] == "training a residual network of 9 blocks on scikit-learn's digits"
    assert any(stage.startswith("step 2 of 2 · loss ") for stage in stages)
    assert stages[-1] == "measuring latency, all models in turns"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file cannot be made: File exists"):
        run_demo(tmp_path / "file", 0, Show())


@pytest.mark.slow
def test_the_true_demo(tmp_path):
    """What the README shows: nearly everything right, and smaller and faster with every block."""
    result = run_demo(tmp_path, 0, Show())
    assert [row.removed for row in result.rows] == [0, *demo._COUNTS]
    assert result.rows[0].score["value"] >= 0.98
    assert result.rows[1].score["value"] >= 0.97
    macs = [row.cost.macs for row in result.rows]
    assert macs == sorted(macs, reverse=True)
    assert all(len(line.rstrip()) <= 80 for line in printed(result).splitlines() if not line.startswith("  sparsify "))
