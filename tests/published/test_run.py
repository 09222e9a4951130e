"""A run of one's own: what a report says, in the units of published results."""

import pytest
from helpers.command import sparsify, write_model
from helpers.published import score, write_report

from sparsify.errors import InputError
from sparsify.published.run import read_run


def test_shares_and_scores_are_those_of_the_report(tmp_path):
    run = read_run(write_report(tmp_path / "r.json"))
    assert run.sparsity == pytest.approx(0.9)
    assert run.macs_removed == 0.75
    assert (run.metric, run.score, run.dense_score, run.n) == ("accuracy", 75.0, 80.0, 100)
    assert run.change == -5.0
    assert run.interval == pytest.approx((70, 79))
    assert run.lacking == ()


def test_an_accuracy_in_percent_and_another_score_stay_as_they_are(tmp_path):
    for name, before, after in (("accuracy", 80.0, 75.0), ("minus the loss", -0.5, -0.75)):
        scores = {"before": score(before, name), "after": score(after, name)}
        run = read_run(write_report(tmp_path / "r.json", scores=scores))
        assert (run.metric, run.dense_score, run.score, run.interval) == (name, before, after, None)


@pytest.mark.parametrize(
    ("scores", "lacking"),
    [
        (None, "a score (the run had no --task)"),
        ({"before": score(0.5), "after": score(float("nan"))}, "a score that is a number"),
    ],
)
def test_what_a_report_lacks_is_left_empty_and_said(tmp_path, scores, lacking):
    counts = {"parameters": 10, "nonzero": 10, "macs": 0}
    run = read_run(write_report(tmp_path / "r.json", scores=scores, before=counts))
    assert (run.metric, run.score, run.change, run.macs_removed) == (None, None, None, None)
    assert run.lacking == ("how many multiply-accumulates there were", lacking)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as a report"),
        ("[1]", "is no report of a run"),
        ('{"before": {"parameters": 0}, "after": {"nonzero": 0}}', "is no report of a run"),
        ('{"before": {"parameters": "9"}, "after": {"nonzero": 1}}', "`sparsify MODEL --pass ... --report FILE.json`"),
    ],
)
def test_another_file_is_refused(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_run(tmp_path / "r.json")
    assert message in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_run(tmp_path / "r.json")


def test_the_report_of_a_real_run_is_read(tmp_path):
    model, path = write_model(tmp_path), tmp_path / "report.json"
    ran = sparsify(model, "--task", "digits", "--pass", "layer-prune", "-o", tmp_path / "s.pt2", "--report", path)
    assert ran.status == 0, ran.err
    run = read_run(path)
    assert 0 < run.sparsity < 1
    assert 0 < run.macs_removed < 1
    assert (run.metric, run.n, run.lacking) == ("accuracy", 450, ())
    assert 0 <= run.score <= 100
