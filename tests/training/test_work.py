"""The work folder: finished trainings are read back, killed ones go on, and a folder belongs to one retraining."""

import copy
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.marks import some
from helpers.sparse import Clusters, program_of
from torch.testing import assert_close

import sparsify as sp
from sparsify.errors import InputError, UsageError
from sparsify.mask_updates.rigl import Rigl
from sparsify.mask_updates.snfs import Snfs
from sparsify.mask_updates.sr_ste import SrSte
from sparsify.training.checkpoints import Checkpoints
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


LOTTERY = "lth:steps=12it,rounds=2,controls=random,optimizer=adamw,rewind=3it"
KILLED = [LOTTERY, "dst:steps=40it,sparsity=0.8,every=3it"]


@pytest.mark.parametrize("method", some([LOTTERY], KILLED), ids=["lth", "dst"])
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


class Poisoned(Clusters):
    """The loss of the fourth batch is multiplied."""

    def __init__(self, factor):
        self.factor = factor

    def batches(self, split, *, seed=0):
        factors = [1.0] * 3 + [self.factor] * (split == "train")
        return [(*super(Poisoned, self).batches(split, seed=seed)[0], factor) for factor in factors]

    def loss(self, model, batch):
        return batch[2] * super().loss(model, batch)


@pytest.mark.parametrize("every", some([0.0], [0.0, 60.0]))
@pytest.mark.parametrize(("factor", "what"), [(float("nan"), "loss is nan"), (1e38, "gradient is inf")])
@pytest.mark.parametrize("rule", [None, Rigl(every=3), Snfs(every=2), SrSte(n=1, m=4)], ids=lambda rule: str(rule)[:4])
def test_a_training_that_diverges_keeps_the_state_before(tmp_path, every, factor, what, rule):
    program = sp.run(program_of(norm=True), ["weight-prune:pattern=1:4"]).program
    whole = Work(tmp_path / "whole", {}, seconds=0.0)
    options = TrainOptions(steps="6it", learning_rate=1e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "clear", lambda self: None)
        whole.train("round-1", program, Poisoned(1.0), options, seed=0, rule=copy.deepcopy(rule), span=(0, 3))
    work = Work(tmp_path / "bad", {}, seconds=every)
    with pytest.raises(TrainingError) as told:
        work.train("round-1", program, Poisoned(factor), options, seed=0, rule=rule)
    assert f"The {what}" in str(told.value)
    assert " at step 4 of 6." in str(told.value)
    kept = f"{tmp_path / 'bad'} keeps the log and what was done before, and checkpoint step-00000003.ckpt of round-1"
    assert str(told.value).endswith(f"{kept}, from after step 3.")
    names = [path.name for path in (tmp_path / "bad").glob("round-1/*")]
    assert sorted(names) == ([] if every else ["step-00000002.ckpt"]) + ["step-00000003.ckpt"]
    good, bad = (Checkpoints(tmp_path / name / "round-1").load() for name in ("whole", "bad"))
    for state in (good, bad):  # which every step sets first
        for group in state["optimizer"]["param_groups"]:
            del group["lr"]
    assert_close(bad, good, rtol=0, atol=0)


def test_a_state_that_is_bad_already_is_no_checkpoint(tmp_path):
    class Huge(Clusters):
        def loss(self, model, batch):
            return model(batch[0]).sum()

    options = TrainOptions(steps="6it", learning_rate=3e38, schedule="constant")
    with pytest.raises(TrainingError, match=r"keeps the log and what was done before\.$"):
        Work(tmp_path, {}).train("one", program_of(), Huge(), options, seed=0)
    assert not list(tmp_path.glob("one/*"))


@pytest.mark.parametrize("method", ["fine-tune:steps=20it", "dst:steps=20it,sparsity=0.8,every=3it"])
def test_ctrl_c_ends_the_step_and_the_same_call_goes_on_with_the_same_bits(tmp_path, method):
    def interrupt(event):
        if event.step == 7:
            signal.raise_signal(signal.SIGINT)

    whole = sp.retrain(program_of(), method, Clusters(), work=tmp_path / "whole")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=f"The same command goes on; {tmp_path / 'w'} keeps what was done"):
        sp.retrain(program_of(), method, Clusters(), work=tmp_path / "w", on_step=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert [path.name for path in (tmp_path / "w").glob("*/*")] == ["step-00000007.ckpt"]
    steps = []
    again = sp.retrain(program_of(), method, Clusters(), work=tmp_path / "w", on_step=lambda e: steps.append(e.step))
    assert steps == list(range(8, 21))
    assert_close(dict(again.program.module().state_dict()), dict(whole.program.module().state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(("split", "kept"), [("train", [3]), ("validation", [])])
def test_ctrl_c_while_data_is_waited_for_is_no_fault_of_the_task(tmp_path, split, kept):
    class Broken(Clusters):
        """Its loader falls with the signal, as the processes of a DataLoader do."""

        def batches(self, asked, *, seed=0):
            yield from super().batches(asked, seed=seed)[: 3 if asked == split else 8]
            if asked != split:
                return
            signal.raise_signal(signal.SIGINT)
            raise RuntimeError("DataLoader worker exited")

    with pytest.raises(KeyboardInterrupt):
        Work(tmp_path, {}).train("one", program_of(), Broken(), replace(OPTIONS, score_every="4it"), seed=0)
    assert [path.name for path in tmp_path.glob("one/*")] == [f"step-{step:08d}.ckpt" for step in kept]


def test_without_a_folder_ctrl_c_interrupts_at_once():
    steps = []

    def interrupt(event):
        steps.append(event.step)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sp.retrain(program_of(), "fine-tune:steps=4it", Clusters(), on_step=interrupt)
    assert steps == [1]


def test_no_empty_folders_are_left(tmp_path):
    spec = "lth:steps=2it,rounds=1"
    sp.retrain(program_of(), spec, Clusters(), work=tmp_path)
    sp.retrain(program_of(), spec, Clusters(), work=tmp_path)
    folders = {path.name: list(path.iterdir()) for path in tmp_path.iterdir() if path.is_dir()}
    assert folders.keys() == {"round-0.done", "round-1.done"}
    assert all(folders.values())


def test_a_used_folder_without_its_identity_is_refused(tmp_path):
    sp.retrain(program_of(), "lth:steps=2it,rounds=1", Clusters(), work=tmp_path)
    (tmp_path / "run.json").unlink()
    for kept in ("log.jsonl", "round-1.ticket", "round-1.done"):
        with pytest.raises(UsageError, match=r"holds a retraining whose run\.json is gone.* Name another --work"):
            Work(tmp_path, {})
        path = tmp_path / kept
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(tmp_path / "round-0.done")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    Work(tmp_path, {}).close()
