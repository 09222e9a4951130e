"""Checkpoints: whole or not there, the last two, and never any code."""

import errno
import pickle

import pytest
import torch

from sparsify.errors import InputError
from sparsify.training import checkpoints as module
from sparsify.training.checkpoints import Checkpoints


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_comes_back_and_two_are_kept(tmp_path):
    store = Checkpoints(tmp_path / "run" / "one")
    assert store.load() is None
    for step in (1, 20, 300):
        store.save(step, {"step": step, "value": torch.arange(step)})
    found = Checkpoints(tmp_path / "run" / "one").load()
    assert found["step"] == 300
    assert torch.equal(found["value"], torch.arange(300))
    assert names(tmp_path / "run" / "one") == ["step-00000020.ckpt", "step-00000300.ckpt"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_one_is_told_and_the_one_before_is_used(tmp_path, damage):
    told = []
    store = Checkpoints(tmp_path, warn=told.append)
    store.save(1, {"step": 1})
    store.save(2, {"step": 2})
    path = tmp_path / "step-00000002.ckpt"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes({"cut": bytes(data[: len(data) // 2]), "flip": bytes(data), "empty": b"",
                      "other": b"x" + bytes(data[1:])}[damage])  # fmt: skip
    assert store.load() == {"step": 1}
    assert told == [f"{path} is damaged; what is before it is used."]
    (tmp_path / "step-00000001.ckpt").write_bytes(b"")
    assert store.load() is None


FULL = (
    r"^The checkpoint \S+step-00000002\.ckpt cannot be written: No space left on device\. The last good one is "
    r"step-00000001\.ckpt; make room"
)


def test_a_full_disk_is_reported_and_the_last_one_survives(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    store.save(1, {"step": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sparsify.atomic.shutil.copyfileobj", full)
    with pytest.raises(InputError, match=FULL):
        store.save(2, {"step": 2})
    monkeypatch.undo()
    assert store.load() == {"step": 1}
    assert names(tmp_path) == ["step-00000001.ckpt"]


def test_it_is_due_after_some_seconds(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    store = Checkpoints(tmp_path, seconds=10)
    assert not store.due()
    now[0] = 110.0
    assert store.due()
    store.save(1, {})
    assert not store.due()


def test_what_could_run_code_is_not_read(tmp_path):
    store = Checkpoints(tmp_path)
    store.save(1, {"step": print})
    with pytest.raises(pickle.UnpicklingError):
        store.load()


def test_they_go_when_the_run_is_done(tmp_path):
    store = Checkpoints(tmp_path / "run")
    store.save(1, {})
    store.clear()
    assert not (tmp_path / "run").exists()


def test_a_folder_is_made_for_the_first_and_goes_with_the_last(tmp_path):
    store = Checkpoints(tmp_path / "one")
    assert (store.load(), store.newest) == (None, None)
    assert not (tmp_path / "one").exists()
    store.save(1, {"step": 1})
    store.clear()
    assert not (tmp_path / "one").exists()
    store.clear()
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be written: Not a directory\. There is none before it"):
        Checkpoints(tmp_path / "file" / "one").save(1, {})
