"""Results: means with their intervals, fronts, and a line for each trial."""

import csv

import pytest
from helpers.sweeps import done, trial

from sparsify.sweeps.results import DENSE, Measured, measured, rows, write_csv

FAILED = Measured(trial("k9", seed=9, method="b"), None, "it diverged")
OPEN = Measured(trial("k8", seed=8, method="b"), None, None)


def test_a_row_is_the_mean_over_seeds_with_students_interval():
    dense, row = rows([done("k0", 0.90), done("k1", 0.92, seed=1), done("k2", 0.94, seed=2)])
    assert (dense.method, dense.score, dense.nonzero_share) == (DENSE, 0.95, 1.0)
    assert (row.seeds, row.failed, row.score_name) == (3, 0, "accuracy")
    assert row.score == pytest.approx(0.92)
    # s = 0.02, t = 4.303 with two degrees of freedom: 4.303 · 0.02 / √3
    assert row.interval == pytest.approx((0.92 - 0.049687, 0.92 + 0.049687), abs=1e-6)
    assert (row.nonzero_share, row.macs_share) == (0.5, 1.0)
    assert row.trials == ("k0", "k1", "k2")


def test_one_seed_has_no_interval():
    assert rows([done()])[1].interval is None


def test_seeds_that_do_not_differ_have_the_interval_of_the_examples():
    row = rows([done("k0", 0.9), done("k1", 0.9, seed=1)])[1]
    assert row.interval == pytest.approx((0.88, 0.92))
    assert row.reach == pytest.approx(0.02)
    found = [done("k0", 0.9), done("k1", 0.9, seed=1)]
    found[0].report["scores"]["after"]["interval"] = None
    assert (rows(found)[1].interval, rows(found)[1].reach) == (None, None)


def test_an_interval_reaches_as_far_as_its_wider_side():
    found = [done("k0", 0.9), done("k1", 0.9, seed=1)]
    found[0].report["scores"]["after"]["interval"] = [0.85, 0.93]
    assert rows(found)[1].reach == pytest.approx(0.05)


def test_what_is_not_done_is_counted():
    _, row, other = rows([done(method="b"), FAILED, OPEN, Measured(trial("k7", method="c"), None, None)])
    assert (row.seeds, row.failed, len(row.trials)) == (1, 1, 3)
    assert (other.seeds, other.score, other.interval, other.front) == (0, None, None, ())


def test_rows_are_by_model_behind_what_each_was():
    made = rows([done("k0"), done("k1", model="n.pt2"), done("k2", method="b")])
    assert [(row.model, row.method) for row in made] == [
        ("m.pt2", DENSE), ("m.pt2", "a"), ("m.pt2", "b"), ("n.pt2", DENSE), ("n.pt2", "a"),
    ]  # fmt: skip


def test_a_front_has_what_nothing_beats():
    found = [
        done("k0", 0.93, method="good", nonzero=50, macs=500),
        done("k1", 0.92, method="beaten", nonzero=50, macs=600),
        done("k2", 0.91, method="small", nonzero=20, macs=1000),
        done("k3", 0.91, method="small-too", nonzero=20, macs=1000),
    ]
    fronts = {row.method: row.front for row in rows(found)}
    assert fronts == {
        DENSE: ("nonzero_share", "macs_share"),
        "good": ("nonzero_share", "macs_share"),
        "beaten": (),
        "small": ("nonzero_share",),
        "small-too": ("nonzero_share",),
    }


def test_a_table_has_a_line_for_each_trial(tmp_path):
    write_csv(tmp_path / "sweep.csv", [FAILED, done("k0", 0.9, together=4), OPEN])
    with (tmp_path / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["key"], line["state"], line["score"], line["error"]) for line in lines] == [
        ("k9", "failed", "", "it diverged"), ("k0", "done", "0.9", ""), ("k8", "open", "", ""),
    ]  # fmt: skip
    assert (lines[1]["together"], lines[1]["nonzero_share"], lines[1]["command"]) == ("4", "0.5", "run k0")


def test_errors_of_what_is_done_are_forgotten(tmp_path):
    assert [one.state for one in measured(tmp_path, [trial("k0"), trial("k1")], {"k1": "it failed"})] == [
        "open",
        "failed",
    ]
