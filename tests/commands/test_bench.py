"""`sparsify bench`."""

import functools
import json

import pytest
from helpers.command import small_program, sparsify, write_model

from sparsify import file_bench
from sparsify.export.onnx import export_onnx

SMALL = ("bench", "--kernels", "--shapes", "32x16", "--batches", "1,2")


def test_it_prints_a_table():
    ran = sparsify(*SMALL)
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["layer", "batch", "format", "dense", "sparse", "speed"]
    assert lines[1].split()[:3] == ["32x16", "1", "2:4"]
    assert len(lines) == 1 + 12 + 1
    assert lines[-1].startswith("Least times of calls in turns on cpu, float32, ")


def test_json_is_all_that_is_printed():
    ran = sparsify(*SMALL, "--dtype", "bfloat16", "--json")
    rows = json.loads(ran.out)
    assert len(rows) == 12
    assert rows[0].keys() == {"kind", "outputs", "inputs", "batch", "dense", "sparse", "way", "speed"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    export_onnx(small_program(), folder / "model.onnx")
    return [folder / "model.onnx", write_model(folder)]


def test_files_are_compared_in_a_table_for_each_batch_size(files, monkeypatch):
    monkeypatch.setattr(file_bench, "in_turns", functools.partial(in_turns, faster=2.0))
    ran = sparsify("bench", *files, "--batches", "1,2", "--threads", "1")
    assert (ran.status, ran.err) == (0, "")
    lines = [line for line in ran.out.splitlines() if line]
    assert lines[0].startswith("batch 1, 1 thread, onnxruntime ")
    assert lines[1].split() == ["file", "size", "latency", "spread", "speed", "99%", "interval"]
    text = " ".join(ran.out.split())
    assert "2.00x 2.00-2.00 faster" in text
    assert "batch 2, 1 thread" in text
    assert "median of 24 runs in turns" in text


def test_files_as_json(files, monkeypatch):
    monkeypatch.setattr(file_bench, "in_turns", functools.partial(in_turns, faster=0.5))
    found = json.loads(sparsify("bench", *files, "--json").out)
    (table,), gates = found["batches"], found["gates"]
    assert gates == []
    assert table["batch"] == 1
    first, second = table["files"]
    assert (first["file"], first["speed"], first["latency_ms"]["median"]) == (str(files[0]), None, 3.0)
    assert (second["speed"]["ratio"], second["speed"]["verdict"]) == (0.5, "slower")


def test_gates_fail_with_one_and_say_by_how_much(files, monkeypatch, tmp_path):
    monkeypatch.setattr(file_bench, "in_turns", functools.partial(in_turns, faster=1.25))
    words = ("bench", *files, "--min-speedup", "1.5", "--max-size", "10MB", "--junit", tmp_path / "gates.xml")
    ran = sparsify(*words)
    assert ran.status == 1
    assert "A gate failed. --min-speedup 1.5:" in ran.err
    assert "only 1.25x as fast (99% interval 1.25-1.25), 0.25x are missing" in ran.err
    assert "passed  --max-size 10MB: " in ran.out
    assert 'failures="1"' in (tmp_path / "gates.xml").read_text("utf-8")
    assert sparsify("bench", *files, "--min-speedup", "1.2").status == 0


def in_turns(starts, *, seconds, sessions, faster):
    """Run everything once; the times are made up."""
    for start in starts:
        start()()
    return [[[1.0 / speed, 3.0 / speed, 5.0 / speed]] * sessions for speed in (1.0, faster)]


@pytest.mark.parametrize(("words", "message"), [
    ([], "Say what to measure: sparsify bench FILE FILE..., or sparsify bench --kernels"),
    (["a.onnx", "--kernels"], "Say what to measure"),
    (["a.onnx", "--min-speedup", "2"], "--min-speedup compares files"),
    (["a.onnx", "b.onnx", "--junit", "x.xml"], "--junit says what they found"),
    (["a.onnx", "b.onnx", "--min-speedup", "-1"], "--min-speedup -1: it must be more than 0"),
    (["a.onnx", "--max-size", "ten"], "--max-size ten: write bytes"),
    (["a.onnx", "--seconds", "0"], "--threads and --seconds must be more than 0"),
    (["a.onnx", "--provider", "nothing"], "--provider nothing: this onnxruntime has"),
    (["a.onnx"], "a.onnx cannot be opened: no such file"),
    (["--kernels", "--shapes", "3"], "--shapes 3: write outputs x inputs"),
    (["--kernels", "--shapes", "0x3"], "--shapes 0x3: '0' is no whole number of at least 1"),
    (["--kernels", "--batches", "x"], "--batches 'x' is no whole number"),
    (["--kernels", "--device", "nowhere"], "nowhere"),
])  # fmt: skip
def test_what_is_wrong_is_said(words, message):
    ran = sparsify("bench", *words)
    assert ran.status == 2
    assert message in ran.err
