"""The command in several processes: one of them writes and tells, and what it writes is what one process writes."""

import json

import pytest
from helpers.rank_jobs import of_command
from helpers.ranks import together
from helpers.sparse import program_of
from safetensors.torch import load_file
from torch.testing import assert_close

import sparsify as sp
from sparsify.cli import main

TASK = """
from helpers.sparse import Clusters as make
"""
RETRAIN = ["--retrain", "dst:method=set,sparsity=0.7,every=4it,steps=10it,learning_rate=0.05"]


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sp.save(program_of(norm=True), "model.pt2")
    (tmp_path / "task.py").write_text(TASK)
    return ["model.pt2", "--task", "task.py"]


def outputs(name):
    return ["-o", f"{name}.safetensors", "--report", f"{name}.json"]


def test_two_processes_write_one_model(model, tmp_path):
    with pytest.raises(SystemExit, match="0"):
        main([*model, *RETRAIN, *outputs("one")])
    words = [*model, *RETRAIN, *outputs("two"), "--audit", "--parallel", "ddp", "--work", "w"]
    first, second = together(2, of_command, words)
    assert first[0] == second[0] == 0
    assert "wrote two.safetensors" in first[1]
    assert second[1:] == ("", "")
    assert_close(load_file("two.safetensors"), load_file("one.safetensors"), rtol=1e-3, atol=1e-5)
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert two["retrain"]["parallel"] == {"kind": "ddp", "ranks": 2}
    assert two["command"].startswith("torchrun --nproc-per-node 2 -m sparsify model.pt2 ")
    assert two["command"].endswith("--parallel ddp")
    assert two["score"] == one["score"]
    assert "audit=yes" in two["command"]
    assert "audit=" not in one["command"]
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["one.log.jsonl"]  # the other is in its folder


def test_what_lowers_runs_behind_their_training(model):
    words = [*model, "--pass", "weight-prune:sparsity=0.7,scope=layer", "--pass", "lower-index",
             "--retrain", "fine-tune:steps=4it", "-o", "low.pt2", "--parallel", "ddp"]  # fmt: skip
    first, second = together(2, of_command, words)
    assert first[0] == second[0] == 0
    assert "sparsify.index_linear" in str(sp.load("low.pt2"))


def test_what_the_first_process_refuses_ends_all(model, tmp_path):
    first, second = together(2, of_command, [*model, *RETRAIN, "--parallel", "fsdp", "-o", "no/where.onnx"])
    assert first[0] == 2
    assert "no/where.onnx" in first[2]
    assert isinstance(second, str) or second[0] in (2, 143)
    assert not list(tmp_path.glob("*.onnx"))


def test_without_torchrun_the_way_is_told(model, capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit, match="2"):
        main([*model, *RETRAIN, "--parallel", "ddp"])
    assert "torchrun --nproc-per-node 2 -m sparsify MODEL --parallel ddp" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [(RETRAIN, "give --parallel ddp"),
     (["--pass", "weight-prune:sparsity=0.5", "--parallel", "ddp"], "--parallel is about a retraining"),
     (["--pass", "weight-prune:sparsity=0.5", "--audit", "--parallel", "ddp"], "--audit is about a retraining")],
    ids=["they would do the same", "no retraining", "nothing to audit"],
)  # fmt: skip
def test_wrong_use_is_told(model, words, told):
    first, _ = together(2, of_command, [*model, *words])
    assert first[0] == 2
    assert told in " ".join(first[2].split())
