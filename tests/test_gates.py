import math
from xml.etree import ElementTree

import pytest

from sparsify.errors import UsageError
from sparsify.gates import Gates, Verdict, junit, parse_size


def report(before=0.9, after=0.8, latency=(4.0, 2.0)):
    sides = ("before", "after")
    scores = dict(zip(sides, ({"value": value, "name": "accuracy"} for value in (before, after)), strict=True))
    times = dict(zip(sides, ({"median": value} for value in latency), strict=True)) if latency else None
    return {"scores": scores, "latency": times}


SIZES = {"small.onnx": 2000, "small.pt2": 3000}


@pytest.mark.parametrize(("gates", "passed", "text"), [
    (Gates(max_drop=0.11), True, "accuracy: 0.9000 before, 0.8000 after"),
    (Gates(max_drop=0.02), False, "the accuracy fell by 0.1000: 0.9000 before, 0.8000 after; 0.0800 too much"),
    (Gates(min_speedup=2), True, "2.00x as fast: 4 ms before, 2 ms after"),
    (Gates(min_speedup=2.5), False, "only 2.00x as fast: 4 ms before, 2 ms after; 0.50x are missing"),
    (Gates(max_size=3000), True, "small.pt2 has 2.93 KiB"),
    (Gates(max_size=2999), False, "small.pt2 has 2.93 KiB, 1 B too many"),
])  # fmt: skip
def test_a_gate_says_what_was_found_and_what_is_missing(gates, passed, text):
    (verdict,) = gates.verdicts(report(), SIZES)
    assert (verdict.passed, verdict.text) == (passed, text)


def test_all_gates_are_judged_and_none_is_no_gate():
    assert Gates().verdicts(report(), SIZES) == []
    found = Gates(0.02, 2.0, 10).verdicts(report(), SIZES)
    assert [(verdict.gate, verdict.passed) for verdict in found] == [
        ("--max-drop 0.02", False), ("--min-speedup 2", True), ("--max-size 10", False),
    ]  # fmt: skip


def test_what_is_not_known_passes_no_gate():
    (verdict,) = Gates(max_drop=0.1).verdicts(report(after=math.nan), SIZES)
    assert (verdict.passed, verdict.text) == (False, "the accuracy fell by nan: 0.9000 before, nan after")
    (verdict,) = Gates(min_speedup=1).verdicts(report(latency=None), SIZES)
    assert not verdict.passed


@pytest.mark.parametrize(("text", "bytes_"), [
    ("500", 500), ("500 B", 500), ("1.5kB", 1500), ("10MB", 10_000_000), ("2MiB", 2 << 20), ("1 gib", 1 << 30),
])  # fmt: skip
def test_sizes(text, bytes_):
    assert parse_size(text) == bytes_


@pytest.mark.parametrize("text", ["", "ten", "-1MB", "1TB", "1e6"])
def test_sizes_that_are_none(text):
    with pytest.raises(UsageError, match="--max-size"):
        parse_size(text)


def test_junit_has_a_test_case_for_each_gate():
    text = junit(
        "small <model>", [Verdict("--max-drop 0.1", True, "fine"), Verdict("--max-size 9", False, "a > b")], 1.5
    )
    suite = ElementTree.fromstring(text)
    assert suite.attrib == {"name": "sparsify small <model>", "tests": "2", "failures": "1", "time": "1.500"}
    first, second = suite.findall("testcase")
    assert (first.get("name"), first.find("failure"), first.findtext("system-out")) == ("--max-drop 0.1", None, "fine")
    assert (second.get("name"), second.find("failure").get("message")) == ("--max-size 9", "a > b")
