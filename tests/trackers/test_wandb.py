import sys

import pytest
from helpers.command import sparsify, write_model
from helpers.recorder import installed
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.trackers.wandb import Wandb


def test_metrics_are_logged_as_one_run(monkeypatch, tmp_path):
    service = installed(monkeypatch, "wandb")
    tracker = Wandb(project="mine")
    sp.retrain(program_of(), "fine-tune:steps=3it", Clusters(), listeners=[tracker], work=tmp_path)
    tracker.close()
    assert service.named("init") == [((), {"project": "mine", "name": None})]
    logged = [args[0] for args, _ in service.named("log")]
    assert [item["fine-tune/step"] for item in logged] == [1, 2, 3]
    assert all(item["fine-tune/loss"] > 0 for item in logged)
    assert service.named("update")[0][0][0]["method"] == "fine-tune:steps=3it"
    assert service.calls[-1][0] == "finish"


def test_without_the_package_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="pip install wandb"):
        Wandb()


def test_from_the_command_line(monkeypatch, tmp_path):
    service = installed(monkeypatch, "wandb")
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path)
    words = ["model.pt2", "--task", "digits", "--retrain", "fine-tune:steps=2it", "--track", "wandb:project=mine"]
    ran = sparsify(*words)
    assert (ran.status, ran.err) == (0, "")
    assert "--track wandb:project=mine" in ran.out
    assert len(service.named("log")) == 2
    assert service.calls[-1][0] == "finish"
