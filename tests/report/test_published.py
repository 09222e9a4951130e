"""Published results in the terminal."""

import io

import pytest
from helpers.published import write_report, write_table
from rich.console import Console

from sparsify.published.run import read_run
from sparsify.published.table import read_table, shipped
from sparsify.report.published import group, print_published


def printed(results, runs=()):
    console = Console(file=io.StringIO(), width=80)
    print_published(console, results, runs)
    return console.file.getvalue()


@pytest.fixture
def results(tmp_path):
    return read_table(write_table(
        tmp_path / "t.csv",
        {"sparsity": "0.95", "score": "70", "dense_score": ""},
        {"macs_removed": "0.5"},
        {"method": "Riddle", "score": "75", "source": "Table 2"},
        {"architecture": "LLaMA", "data": "WikiText-2", "metric": "perplexity", "score": "7.3", "dense_score": "5.7"},
    ))  # fmt: skip


def test_there_is_a_table_for_each_network_rising_in_sparsity_the_best_first(results):
    groups = group(results)
    assert {title: [(one.method, one.sparsity) for one in members] for title, members in groups.items()} == {
        "ResNet-50 on ImageNet: accuracy in % (higher is better)": [("Riddle", 0.9), ("Sieve", 0.9), ("Sieve", 0.95)],
        "LLaMA on WikiText-2: perplexity (lower is better)": [("Sieve", 0.9)],
    }


def test_rows_say_what_is_known_and_point_at_their_sources(results):
    text = printed(results)
    lines = [line.split() for line in text.splitlines()]
    assert ["Sieve", "90.0%", "50.0%", "74.50", "76.50", "-2.00", "2021", "[2]"] in lines
    assert ["Sieve", "95.0%", "70.00", "2021", "[2]"] in lines
    assert ["Sieve", "90.0%", "7.30", "5.70", "+1.60", "2021", "[2]"] in lines
    assert text.endswith("[1] Doe et al., Sieves, 2021. Table 2\n[2] Doe et al., Sieves, 2021. Table 1\n")


def test_runs_stand_above_with_their_interval_and_what_they_lack(tmp_path, results, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [write_report(tmp_path / "a.json"), write_report(tmp_path / "b.json", scores=None)]
    text = printed(results, [read_run(path.relative_to(tmp_path)) for path in paths])
    assert text.index("Your runs") < text.index("ResNet-50 on ImageNet")
    lines = [line.split() for line in text.splitlines()]
    assert ["a.json", "90.0%", "75.0%", "75.00", "80.00", "-5.00", "accuracy", "in", "%"] in lines
    assert ["b.json", "90.0%", "75.0%"] in lines
    assert "a.json: 95% interval of the score 70 to 79, n = 100" in text
    assert "note: b.json does not say a score (the run had no --task)." in text


def test_what_is_shipped_fits_eighty_columns():
    results = shipped()
    lines = printed(results).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(f"{one.method} ") for line in lines) for one in results)  # no name is broken
