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
        ("--min-speedup 1.5: small, batch 1", True, "2.00x as fast (99% interval 1.90-2.10)"),
        ("--min-speedup 1.5: small, batch 16", False, "only 1.20x as fast (99% interval 1.10-1.30), 0.30x are missing"),
    ]


@pytest.mark.parametrize(("limit", "passed", "text"), [
    ("3000", True, "2.93 KiB"), ("2999B", False, "2.93 KiB, 1 B too many"),
])  # fmt: skip
def test_sizes_are_those_of_the_files_but_the_first(limit, passed, text):
    (verdict,) = Gates(max_size=limit).verdicts(TABLES)
    assert (verdict.gate, verdict.passed, verdict.text) == (f"--max-size {limit}: small", passed, text)


def test_a_file_alone_has_a_size_too_and_no_limit_is_no_gate():
    assert Gates().verdicts(TABLES) == []
    (verdict,) = Gates(1.5, "100").verdicts([Table(1, 1, [row("only", 101)])])
    assert (verdict.gate, verdict.passed) == ("--max-size 100: only", False)


@pytest.mark.parametrize(("ratio", "passed", "text"), [
    (1.52, True, "1.52x as fast (99% interval 1.42-1.62); the limit lies within noise"),
    (1.45, False, "only 1.45x as fast (99% interval 1.35-1.55), 0.05x are missing; the limit lies within noise"),
    (1.499, False, "just under: only 1.50x as fast (99% interval 1.40-1.60); the limit lies within noise"),
    (1.5, True, "1.50x as fast (99% interval 1.40-1.60); the limit lies within noise"),
])  # fmt: skip
def test_the_estimate_decides_and_what_is_close_is_said_to_be(ratio, passed, text):
    (verdict,) = Gates(1.5).speed(Speed(ratio, ratio - 0.1, ratio + 0.1), "small")
    assert (verdict.passed, verdict.text) == (passed, f"{text}, so that another run may say otherwise")


def test_what_was_not_measured_passes_no_gate():
    (verdict,) = Gates(0.1).speed("it cannot be written.", "small")
    assert (verdict.passed, verdict.text) == (False, "not measured: it cannot be written.")
    assert Gates().speed("it cannot be written.", "small") == []


@pytest.mark.parametrize(("before", "after", "limit", "passed", "text"), [
    (0.9, 0.85, 0.06, True, "fell by 0.0500 (0.9000 before, 0.8500 after)"),
    (0.9, 0.95, 0.0, True, "rose by 0.0500 (0.9000 before, 0.9500 after)"),
    (0.9, 0.8, 0.05, False, "fell by 0.1000, 0.0500 too much (0.9000 before, 0.8000 after)"),
    (0.9, 0.95, -0.1, False, "rose by 0.0500, 0.0500 too little (0.9000 before, 0.9500 after)"),
    (0.9, float("nan"), 0.05, False, "is no number any more (0.9000 before, nan after)"),
])  # fmt: skip
def test_a_score_may_fall_by_no_more(before, after, limit, passed, text):
    scores = {when: {"name": "accuracy", "value": value} for when, value in (("before", before), ("after", after))}
    (verdict,) = Gates(max_drop=limit).drop(scores)
    assert (verdict.gate, verdict.passed, verdict.text) == (f"--max-drop {limit:g}: accuracy", passed, text)
    assert Gates().drop(scores) == []


@pytest.mark.parametrize("wrong", [{"max_drop": float("nan")}, {"min_speedup": float("nan")}, {"min_speedup": 0.0}])
def test_limits_that_are_none(wrong):
    with pytest.raises(UsageError, match="it must be"):
        Gates(**wrong)


def test_gates_are_there_when_there_is_a_limit():
    assert not Gates()
    assert [bool(gates) for gates in (Gates(0.1), Gates(max_size="0"), Gates(max_drop=0.0))] == [True] * 3
    assert (Gates(max_drop=0.0).of_files, Gates(max_size="1").of_files) == (False, True)


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
