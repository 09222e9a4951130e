"""On Ray: a cluster of this machine runs the trials, and what it gives is what a process gives."""

import json

import pytest
from helpers.command import sparsify
from helpers.sweeps import RECIPE, write_sweep


@pytest.mark.slow  # starting Ray takes longer than all other tests of sweeps
def test_a_local_cluster_runs_a_sweep(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path, RECIPE.replace("untrained: weight-prune:sparsity=$sparsity", "refuses: layer-prune"))
    ran = sparsify(
        "sweep", "sweep.yaml", "--ray", "local", "--jobs", 2, "--batch-seeds", "no", "--out", "ray", "--json"
    )
    assert ran.status == 1
    assert "2 of 6 trials failed" in ran.err
    sparsify("sweep", "sweep.yaml", "--jobs", 1, "--batch-seeds", "no", "--out", "here")
    found = {name: sorted(tmp_path.glob(f"{name}/trials/*/report.json")) for name in ("ray", "here")}
    assert len(found["ray"]) == len(found["here"]) == 4
    for one, other in zip(found["ray"], found["here"], strict=True):
        two = [json.loads(path.read_text()) for path in (one, other)]
        assert two[0]["scores"] == two[1]["scores"]
        assert two[0]["retrain"]["final_loss"] == two[1]["retrain"]["final_loss"]


def test_a_cluster_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    ran = sparsify("sweep", write_sweep(tmp_path), "--ray", "no-such-place")
    assert ran.status == 2
    assert "--ray no-such-place: there is no such cluster" in ran.err


def test_without_ray_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    ran = sparsify("sweep", write_sweep(tmp_path), "--ray", "local")
    assert ran.status == 2
    assert "pip install sparsify-fx[ray]" in ran.err
