"""`sparsify bench --kernels`."""

import json

import pytest
from helpers.command import sparsify

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


@pytest.mark.parametrize(("words", "message"), [
    ([], "Say what to measure: sparsify bench --kernels"),
    (["--kernels", "--shapes", "3"], "--shapes 3: write outputs x inputs"),
    (["--kernels", "--shapes", "0x3"], "--shapes 0x3: '0' is no whole number of at least 1"),
    (["--kernels", "--batches", "x"], "--batches 'x' is no whole number"),
    (["--kernels", "--device", "nowhere"], "nowhere"),
])  # fmt: skip
def test_what_is_wrong_is_said(words, message):
    ran = sparsify("bench", *words)
    assert ran.status == 2
    assert message in ran.err
