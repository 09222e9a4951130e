"""The rules of sparse training in the terminal: defaults and papers of all."""

import io

import pytest
from rich.console import Console

from sparsify.registry import entries
from sparsify.report.rules import print_rule, print_rules, print_way, print_ways

RULES = entries("sparsify.mask_updates")
WAYS = entries("sparsify.strong")


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=100)


def test_every_rule_has_a_row_with_its_defaults_and_its_paper(console):
    print_rules(console, RULES)
    rows = {line.split()[0]: line.split() for line in console.file.getvalue().splitlines()[2:]}
    assert rows.keys() >= RULES.keys()
    assert rows["rigl"] == ["rigl", "100it", "0.3", "0.75", "Evci", "et", "al.", "2020"]
    assert rows["snfs"] == ["snfs", "1ep", "0.5", "1.0", "Dettmers", "and", "Zettlemoyer", "2019"]
    assert rows["static"] == ["static", "Evci", "et", "al.", "2020"]
    assert all(rows[name][-1].isdigit() for name in RULES)


def test_one_rule_says_what_it_is_and_how_it_is_chosen(console):
    print_rule(console, RULES["gmp"])
    text = console.file.getvalue()
    assert "Gradual magnitude pruning" in text
    assert "    every=100it  steps between updates" in text
    assert "layouts" not in text
    assert text.endswith("\nIt runs with dst:method=gmp; its own defaults: every=100it, until=0.75.\n")


def test_only_what_dst_takes_is_an_option(console):
    print_rule(console, RULES["deepr"])
    assert "temperature" not in console.file.getvalue().partition("Options:")[2].partition("Reference:")[0]


def test_a_rule_without_options(console):
    print_rule(console, RULES["static"])
    assert console.file.getvalue().endswith("\nIt runs with dst:method=static; its own defaults: none.\n")


def test_every_way_of_scoring_has_a_row_with_its_options_and_its_paper(console):
    print_ways(console, WAYS)
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in console.file.getvalue().splitlines()[2:]}
    assert rows.keys() >= WAYS.keys()
    assert rows["signed"] == "init=sign, learning_rate=0.01, threshold=0.01 Koster et al. 2022"
    assert rows["supermask"] == "init=sign, learning_rate=0.05, rescale=no Zhou et al. 2019"


def test_one_way_says_how_it_is_chosen(console):
    print_way(console, WAYS["slot-machines"])
    text = console.file.getvalue()
    assert text.startswith("slot-machines\n\n")
    end = "It runs with strong:method=slot-machines; its own defaults: init=xavier, learning_rate=0.001, values=8."
    assert " ".join(text.split()).endswith(end)
