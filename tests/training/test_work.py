"""The work folder: finished trainings are read back, killed ones go on, and a folder belongs to one retraining."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.errors import InputError, UsageError
from sparsify.training.train import TrainingError
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

OPTIONS = TrainOptions(steps="6it", score_every="3it")
SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from helpers.sparse import Clusters, program_of
import sparsify as sp
import sparsify.training.work as work
work.Checkpoints.due = lambda self: True
slow = float(sys.argv[3])
result = sp.retrain(program_of(), sys.argv[2], Clusters(), work=sys.argv[1], on_step=lambda event: time.sleep(slow))
torch.save({{k: v.detach() for k, v in {{**result.program.parameters, **result.program.buffers}}.items()}}, sys.argv[4])
"""


def events(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


def trained(work, name="one", seed=0):
    return work.train(name, program_of(), Clusters(), OPTIONS, seed=seed)


def test_what_is_done_is_read_back(tmp_path):
    work = Work(tmp_path / "w", {"a": 1})
    first = trained(work)
    work.close()
    steps = []
    again = trained(Work(tmp_path / "w", {"a": 1}, on_step=steps.append))
    assert steps == []
    assert (again.losses, again.curve, again.exchanges, again.itop) == (
        first.losses, first.curve, first.exchanges, first.itop
    )  # fmt: skip
    for name, value in first.program.parameters.items():
        assert torch.equal(value, again.program.parameters[name])


def test_the_log_tells_everything(tmp_path):
    told = []
    work = Work(tmp_path, {"method": "x"}, listeners=(told.append,))
    trained(work)
    found = events(tmp_path)
    assert found == told
    assert [item["event"] for item in found] == [
        "started",
        *["step"] * 3,
        "measured",
        *["step"] * 3,
        "measured",
        "trained",
    ]
    assert [item["step"] for item in found if item["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert found[1].keys() >= {"training", "loss", "learning_rate", "gradient_norm", "density", "time"}


def test_without_a_folder_listeners_are_told_and_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, names = [], []
    work = Work(listeners=(told.append,), on_step=lambda event: names.append(event.training))
    trained(work)
    assert (told[0]["event"], told[-1]["event"]) == ("started", "trained")
    assert names == ["one"] * 6
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_retraining_is_refused(tmp_path):
    Work(tmp_path, {"method": "lth", "seed": 0}).close()
    Work(tmp_path, {"method": "lth", "seed": 0}).close()
    with pytest.raises(UsageError, match=r"its seed is 0, and here it is 1\. Name another --work"):
        Work(tmp_path, {"method": "lth", "seed": 1})
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        Work(tmp_path, {"method": "lth", "seed": 0})


def test_two_processes_do_not_share_a_folder(tmp_path):
    work = Work(tmp_path, {})
    with pytest.raises(UsageError, match="Another process writes"):
        Work(tmp_path, {})
    work.close()
    Work(tmp_path, {}).close()


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be used"):
        Work(tmp_path / "file", {})


@pytest.mark.parametrize(
    "method",
    ["lth:steps=12it,rounds=2,controls=random,optimizer=adamw,rewind=3it", "dst:steps=40it,sparsity=0.8,every=3it"],
    ids=["lth", "dst"],
)
def test_killed_at_any_point_it_ends_with_the_same_bits(tmp_path, method):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])), encoding="utf-8")

    def start(folder, slow, out):
        return subprocess.Popen([sys.executable, script, folder, method, str(slow), out])

    assert start(tmp_path / "whole", 0, tmp_path / "whole.pt").wait() == 0
    for _ in range(2):  # killed twice, the second time a little later
        process = start(tmp_path / "killed", 0.02, tmp_path / "killed.pt")
        log = tmp_path / "killed" / "log.jsonl"
        before = len(events(tmp_path / "killed")) if log.exists() else 0
        while process.poll() is None and (not log.exists() or len(log.read_text("utf-8").splitlines()) < before + 8):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed", 0, tmp_path / "killed.pt").wait() == 0
    one, other = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert "resumed" in {item["event"] for item in events(tmp_path / "killed")}


def test_the_same_call_is_another_retraining_for_another_model(tmp_path):
    spec = "fine-tune:steps=2it"
    sp.retrain(program_of(), spec, Clusters(), work=tmp_path)
    with pytest.raises(UsageError, match="its model is"):
        sp.retrain(program_of(1), spec, Clusters(), work=tmp_path)


def test_the_same_call_is_another_retraining_for_other_data(tmp_path):
    class Smaller(Clusters):
        def batches(self, split, *, seed=0):
            return [(x[:16], y[:16]) for x, y in super().batches(split, seed=seed)]

    sp.retrain(program_of(), "fine-tune:steps=2it", Clusters(), work=tmp_path)
    with pytest.raises(UsageError, match="its data is"):
        sp.retrain(program_of(), "fine-tune:steps=2it", Smaller(), work=tmp_path)


@pytest.mark.parametrize("every", [0.0, 60.0])
def test_a_training_that_diverges_says_what_is_kept(tmp_path, every):
    class Poisoned(Clusters):
        def batches(self, split, *, seed=0):
            x, y = super().batches(split, seed=seed)[0]
            return [(x, y)] * 3 + [(x * float("nan"), y)]

    work = Work(tmp_path, {}, seconds=every)
    with pytest.raises(TrainingError) as told:
        work.train("round-1", program_of(), Poisoned(), OPTIONS, seed=0)
    assert "The loss is nan at step 4 of 6." in str(told.value)
    last = "" if every else ", and step-00000003.ckpt of round-1"
    assert str(told.value).endswith(f"{tmp_path} keeps the log, what was done before{last}.")
    assert [path.name for path in tmp_path.glob("round-1/*")] == (
        [] if every else ["step-00000002.ckpt", "step-00000003.ckpt"]
    )
