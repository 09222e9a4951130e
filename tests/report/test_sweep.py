"""A sweep in the terminal."""

import io

from helpers.sweeps import done, trial
from rich.console import Console

from sparsify.report.sweep import name, one_by_one, print_sweep, together
from sparsify.sweeps.results import Measured, rows


def printed(found, width=80):
    text = io.StringIO()
    print_sweep(Console(file=text, width=width), rows(found), found)
    return text.getvalue()


def test_a_row_has_its_mean_interval_and_marks():
    found = [done("k0", 0.9), done("k1", 0.94, seed=1), done("k2", 0.8, method="channels", sparsity=None)]
    lines = printed(found).splitlines()
    assert lines[0].split() == ["m.pt2"]
    assert lines[1].split() == ["method", "sparsity", "seeds", "accuracy", "95%", "non-zeros"]
    assert lines[2].split() == ["(before)", "0.9500", "100%", "*"]
    assert lines[3].split() == ["a", "0.5", "2", "0.9200", "±", "0.2541", "50.0%", "*"]
    assert lines[4].split() == ["channels", "1", "0.8000", "50.0%"]


def test_multiply_accumulates_are_shown_where_some_went():
    lines = printed([done("k0", 0.9, macs=500)]).splitlines()
    assert lines[1].split()[-1] == "MACs"
    assert lines[3].split()[-4:] == ["50.0%", "*", "50.0%", "*"]


def test_what_failed_is_told_once_for_trials_that_failed_alike():
    failed = [Measured(trial(f"k{seed}", seed=seed), None, "it diverged") for seed in (1, 2)]
    text = printed([done("k0"), *failed], width=200)
    assert "1 of 3" in text
    assert "failed: m.pt2, a at 0.5, seed 1 and 1 other: it diverged" in text


def test_names_are_not_markup():
    assert "[red]" in printed([done("k0", method="[red]")])


def test_it_says_what_was_trained_at_once():
    assert together([done("k0")]) == ""
    assert together([done("k0", together=2), done("k1")]).startswith("1 of 2 trials were trained up to 2 seeds at once")
    assert name(done("k0", sparsity=None)) == "m.pt2, a, seed 0"


def test_it_says_why_seeds_were_not_trained_at_once():
    assert one_by_one([done("k0")]) == []
    found = [done("k0"), done("k1", seed=1), done("k2", sparsity=0.8), done("k3", method="b")]
    for one in found[:3]:
        one.report["one_by_one"] = "clip=1.0 is for single trainings"
    told = "trained one by one, not at once: m.pt2, a at 0.5 and 1 other: clip=1.0 is for single trainings"
    assert one_by_one(found) == [told]
    assert told in printed(found, width=200)
