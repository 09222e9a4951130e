import pytest
from helpers.reports import report

from sparsify.report.timeline import proof, timeline


def test_steps_follow_each_other_and_fill_the_run():
    passes = [
        {"pass": "weight-prune:sparsity=0.5", "seconds": 0.5, "verify_seconds": 0.25, "contract": "lossy"},
        {"pass": "shrink", "seconds": 0.25, "verify_seconds": 0.5, "contract": "exact"},
    ]
    found = timeline(
        report(passes=passes, retrain={"method": "fine-tune", "seconds": 1.0}, load_seconds=0.5, seconds=4.0)
    )
    assert [(step.name, step.proof) for step in found] == [
        ("load and capture", ""), ("weight-prune:sparsity=0.5", "checked"), ("shrink", "proven equal"),
        ("retrain fine-tune", ""), ("score, write, measure", ""),
    ]  # fmt: skip
    assert [step.start for step in found] == pytest.approx([0, 0.125, 0.3125, 0.5, 0.75])
    assert sum(step.width for step in found) == pytest.approx(1)


def test_what_ran_behind_a_retraining_stands_there():
    passes = [{"pass": "lower", "seconds": 0.5, "behind_retraining": True}, {"pass": "shrink", "seconds": 0.25}]
    found = timeline(report(passes=passes[::-1], retrain={"method": "fine-tune", "seconds": 1.0}))
    assert [step.name for step in found][1:4] == ["shrink", "retrain fine-tune", "lower"]


def test_what_was_not_verified_is_said():
    assert proof({"pass": "shrink", "seconds": 0.1}) == "not verified"
    (_, step, _) = timeline(report(passes=[{"pass": "shrink", "seconds": 0.1}]))
    assert (step.proof, step.checking) == ("not verified", 0)


def test_a_report_without_times():
    found = timeline(report(load_seconds=0.0, seconds=0.0))
    assert [(step.start, step.width) for step in found] == [(0, 0)]
