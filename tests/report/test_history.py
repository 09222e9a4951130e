"""Histories: what logs tell, also of runs that were stopped and went on."""

import json

import pytest
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.errors import InputError
from sparsify.report.history import read_history


def written(folder, *events, tail=""):
    lines = [json.dumps(event) for event in events]
    (folder / "log.jsonl").write_text("\n".join([*lines, tail] if tail else lines) + "\n", encoding="utf-8")
    return folder


def step(number, loss, training="one"):
    return {"event": "step", "training": training, "step": number, "loss": loss}


START = {"event": "started", "method": "lth:rounds=2"}


def test_a_run_is_read_back(tmp_path):
    result = sp.retrain(
        program_of(), "lth:steps=6it,rounds=2,score_every=3it,controls=random", Clusters(), work=tmp_path
    )
    found = read_history(tmp_path)
    record = result.report["retrain"]
    assert found.method == record["method"]
    assert [entry["score"] for entry in found.rounds] == [entry["score"] for entry in record["rounds"]]
    assert [entry["control"] for entry in found.controls] == ["random"]
    assert list(found.steps) == ["round-0", "round-1", "round-2", "random-2"]
    assert [point["step"] for point in found.measured["round-1"]] == [3, 6]


def test_updates_of_masks_are_read_back(tmp_path):
    sp.retrain(program_of(), "dst:steps=20it,sparsity=0.8,every=4it", Clusters(), work=tmp_path)
    points = read_history(tmp_path).exchanged["dst"]
    assert [point["step"] for point in points] == [4, 8, 12]
    assert points[0]["kept"] > points[0]["grown"] > 0


def test_of_what_was_done_twice_the_last_time_counts(tmp_path):
    folder = written(tmp_path, START, step(1, 5.0), step(2, 4.0), {"event": "resumed"}, step(2, 3.0), step(3, 2.0))
    assert [(p["step"], p["loss"]) for p in read_history(folder).steps["one"]] == [(1, 5.0), (2, 3.0), (3, 2.0)]


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    folder = written(tmp_path, START, step(1, 5.0), tail='{"event": "st')
    assert len(read_history(folder).steps["one"]) == 1


def test_what_is_no_log_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_history(tmp_path)
    for text in ("", "hello\nhello\n", '{"event": "step"}\n', "[1]\n[1]\n"):
        (tmp_path / "log.jsonl").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="is no log of a retraining"):
            read_history(tmp_path)
