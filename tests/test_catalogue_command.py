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


def test_explain_shows_the_learning_rate_of_each_way_of_scoring():
    assert "learning_rate=0.0001" in sparsify("explain", "piggyback").out
    assert "learning_rate=0.001" in sparsify("explain", "slot-machines").out
