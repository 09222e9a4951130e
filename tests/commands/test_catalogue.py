"""`sparsify passes`, `sparsify criteria`, `sparsify explain`."""

import dataclasses
import json

import pytest
from helpers.command import sparsify

from sparsify import registry


@pytest.mark.parametrize("command", ["passes", "criteria"])
def test_lists(command):
    found = json.loads(sparsify(command, "--json").out)
    names = [item["name"] for item in found]
    assert names == list(registry.entries(f"sparsify.{command}"))
    assert set(found[0]) == {field.name for field in dataclasses.fields(registry.Entry)}
    text = sparsify(command)
    assert text.status == 0
    assert all(name in text.out for name in names)


@pytest.mark.parametrize(
    "name", ["layer-prune", "magnitude", "fine-tune", "digits", "dst", "rigl", "sr-ste", "strong", "iterand"]
)
def test_explain(name):
    ran = sparsify("explain", name)
    assert ran.status == 0
    assert ran.out.startswith(f"{name}\n\n")
    assert "Reference: " in ran.out or name in ("magnitude",)
    assert "Raises:" not in ran.out
    assert ("Mostafa and Wang 2019" in ran.out) == (name == "dst")
    assert ("Aladago and Torresani 2021" in ran.out) == (name == "strong")
    assert ("It runs with strong:method=iterand; its own defaults: init=sign" in ran.out) == (name == "iterand")


@pytest.mark.parametrize(("choice", "where"), [
    ("freezenet", "--retrain freeze:method=freezenet"), ("zhou", "--retrain freeze:method=zhou"),
    ("fish", "--retrain freeze:method=fish"), ("dct", "--pass embed:kind=dct"),
    ("interspace", "--pass embed:kind=interspace"), ("projection", "--pass embed:kind=projection"),
])  # fmt: skip
def test_explain_finds_choices_of_options(choice, where):
    ran = sparsify("explain", choice)
    assert ran.status == 0
    assert ran.out.startswith(f"{where}: ")
    assert "Reference: " in ran.out
    assert "learning_rate" in ran.out or "basis" in ran.out


@pytest.mark.parametrize("choice", ["erk", "smart"])
def test_explain_lists_all_options_that_have_a_choice(choice):
    ran = sparsify("explain", choice)
    assert ran.status == 0
    assert f"--pass weight-prune:allocation={choice}" in ran.out
    assert f"--retrain pai:allocation={choice}" in ran.out
    assert "` has more on one." in ran.out


def test_what_has_one_name_twice_is_told_apart():
    ran = sparsify("explain", "freeze")
    assert ran.out.startswith("--pass freeze\n\n")
    assert "\n\n--retrain freeze\n\n" in ran.out
    assert sparsify("explain", "freez").err.count("'freeze'") == 1


@pytest.mark.parametrize("name", ["strong", "intrinsic"])
def test_options_that_are_refused_are_not_listed(name):
    assert "compact" not in sparsify("explain", name).out
    assert "compact" in sparsify("explain", "early-bird").out


def test_explain_shows_the_learning_rate_of_each_way_of_scoring():
    assert "learning_rate=0.0001" in sparsify("explain", "piggyback").out
    assert "learning_rate=0.001" in sparsify("explain", "slot-machines").out
