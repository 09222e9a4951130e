"""The log file: one line for each event, whole as soon as it is written."""

import json
from pathlib import Path

import pytest

from sparsify.errors import InputError, UsageError
from sparsify.training.log import Log, log_of_a_run


def test_a_line_is_there_at_once(tmp_path):
    log = Log(tmp_path / "x.log.jsonl", keep=False)
    log({"event": "step", "loss": 1.5})
    assert json.loads((tmp_path / "x.log.jsonl").read_text("utf-8")) == {"event": "step", "loss": 1.5}
    log.close()


@pytest.mark.parametrize(("keep", "lines"), [(True, 2), (False, 1)])
def test_what_was_there_is_kept_or_replaced(tmp_path, keep, lines):
    for _ in range(2):
        log = Log(tmp_path / "x", keep=keep)
        log({"event": "started"})
        log.close()
    assert len((tmp_path / "x").read_text("utf-8").splitlines()) == lines


def test_a_log_that_another_writes_is_left_alone(tmp_path):
    log = Log(tmp_path / "x", keep=False)
    log({"event": "started"})
    with pytest.raises(UsageError, match="Another process writes"):
        Log(tmp_path / "x", keep=False)
    assert (tmp_path / "x").read_text("utf-8") == '{"event": "started"}\n'
    log.close()
    Log(tmp_path / "x", keep=True).close()


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(InputError, match="cannot be written: No such file"):
        Log(tmp_path / "no" / "x", keep=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_said(tmp_path):
    (tmp_path / "x").symlink_to("/dev/full")
    log = Log(tmp_path / "x", keep=True)
    with pytest.raises(InputError, match=r"No space left on device\. Make room"):
        log({"event": "step"})


def test_the_log_of_a_run_takes_its_place_when_the_run_succeeds(tmp_path):
    path, running = tmp_path / "x.log.jsonl", tmp_path / "x.running.log.jsonl"
    path.write_text("old", encoding="utf-8")
    with log_of_a_run(path) as log:
        log({"event": "started"})
        assert (path.read_text("utf-8"), log.path) == ("old", running)
    assert json.loads(path.read_text("utf-8")) == {"event": "started"}
    assert not running.exists()


def test_the_log_of_a_run_that_fails_leaves_the_old_one_alone(tmp_path):
    path, running = tmp_path / "x.log.jsonl", tmp_path / "x.running.log.jsonl"
    path.write_text("old", encoding="utf-8")

    def fail():
        with log_of_a_run(path) as log:
            log({"event": "started"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text("utf-8") == "old"
    assert json.loads(running.read_text("utf-8")) == {"event": "started"}
    with log_of_a_run(path):  # the next run begins anew
        pass
    assert path.read_text("utf-8") == ""
