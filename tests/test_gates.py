from xml.etree import ElementTree

import pytest

from sparsify.errors import GateError, UsageError
from sparsify.file_bench import Measured, Table
from sparsify.gates import Gates, Verdict, junit, parse_size, refuse
from sparsify.latency import Latency, Speed


def row(name, bytes_, ratio=None):
    speed = None if ratio is None else Speed(ratio, ratio - 0.1, ratio + 0.1)
    return Measured(name, "a runtime", bytes_, Latency(1.0, 1.0, 1.0, 3, 1, 1), speed)


TABLES = [Table(batch, 1, [row("dense", 9000), row("small", 3000, ratio)]) for batch, ratio in ((1, 2.0), (16, 1.2))]


def test_every_file_must_be_fast_enough_at_every_batch_size():
    found = Gates(min_speedup=1.5).verdicts(TABLES)
    assert [(verdict.gate, verdict.passed, verdict.text) for verdict in found] == [
        ("--min-speedup 1.5: small, batch 1", True, "2.00x as fast"),
        ("--min-speedup 1.5: small, batch 16", False, "only 1.20x as fast, 0.30x are missing"),
    ]


@pytest.mark.parametrize(("limit", "passed", "text"), [
    (3000, True, "2.93 KiB"), (2999, False, "2.93 KiB, 1 B too many"),
])  # fmt: skip
def test_sizes_are_those_of_the_files_but_the_first(limit, passed, text):
    (verdict,) = Gates(max_size=limit).verdicts(TABLES)
    assert (verdict.gate, verdict.passed, verdict.text) == ("--max-size 2.93 KiB: small", passed, text)


def test_a_file_alone_has_a_size_too_and_no_limit_is_no_gate():
    assert Gates().verdicts(TABLES) == []
    (verdict,) = Gates(1.5, 100).verdicts([Table(1, 1, [row("only", 101)])])
    assert (verdict.gate, verdict.passed) == ("--max-size 100 B: only", False)


def test_what_failed_is_said_at_once():
    refuse([Verdict("a", True, "fine")])
    with pytest.raises(GateError, match=r"^A gate failed. b: too slow\.$"):
        refuse([Verdict("a", True, "fine"), Verdict("b", False, "too slow")])
    with pytest.raises(GateError, match=r"^2 gates failed. a: x; b: y\.$"):
        refuse([Verdict("a", False, "x"), Verdict("b", False, "y")])


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
    text = junit([Verdict("--max-size 9 B: <a>", True, "fine"), Verdict("b", False, "a > b")], 1.5)
    suite = ElementTree.fromstring(text)
    assert suite.attrib == {"name": "sparsify", "tests": "2", "failures": "1", "time": "1.500"}
    first, second = suite.findall("testcase")
    assert (first.get("name"), first.find("failure")) == ("--max-size 9 B: <a>", None)
    assert first.findtext("system-out") == "fine"
    assert (second.get("name"), second.find("failure").get("message")) == ("b", "a > b")
