"""Workers: one that is killed costs nothing but time, and Ctrl-C ends all of them."""

import multiprocessing
import os
import signal

import pytest
from helpers.sweeps import RECIPE, write_sweep

from sparsify.sweeps.recipe import read_plan
from sparsify.sweeps.store import Store
from sparsify.sweeps.trials import Sweep
from sparsify.sweeps.workers import run_in_processes

LONG = RECIPE.replace("steps=8it", "steps=1500it")  # seconds


@pytest.fixture
def whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = read_plan(write_sweep(tmp_path, LONG))
    trials = tuple(trial for trial in plan.trials() if trial.cell.method == "pruned" and trial.cell.sparsity == 0.5)
    sweep = Sweep(tmp_path / "out", trials, plan.task)
    Store(sweep.folder).enqueue(sweep.trials)
    return sweep


def test_killed_workers_and_an_interrupted_command(whole):
    store, killed = Store(whole.folder), []

    def disturb():
        workers = multiprocessing.active_children()
        begun = any(path.stat().st_size for path in whole.folder.rglob("log.jsonl") if path.parent.name == "work")
        if begun and not killed:
            for worker in workers:
                os.kill(worker.pid, signal.SIGKILL)
                killed.append(worker.pid)
        elif killed and store.counts(whole.trials)["running"] and {worker.pid for worker in workers} - {*killed}:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_processes(whole, 2, disturb)
    assert multiprocessing.active_children() == []
    assert store.counts(whole.trials)["complete"] < 2
    looked = []
    store.enqueue(whole.trials)  # as the command does: what was lost before does not count
    run_in_processes(whole, 2, lambda: looked.append(store.counts(whole.trials)))
    assert looked[-1] == {"complete": 2}
    assert list(whole.folder.glob("trials/*/work")) == []
