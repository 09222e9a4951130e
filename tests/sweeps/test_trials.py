"""Keys: the same for what must give the same, other ones for what need not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.sweeps import RECIPE, write_sweep

from sparsify.sweeps import trials as module
from sparsify.sweeps.recipe import read_plan
from sparsify.sweeps.trials import Cell, common_digest, path_digest, trial_key
from sparsify.task import resolve

CELL = Cell("m.pt2", "a", 0.5, ("weight-prune:sparsity=0.5",), "fine-tune:steps=8it")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(folder, text=RECIPE):
    return {trial.key for trial in read_plan(write_sweep(folder, text)).trials()}


def test_names_order_and_defaults_do_not_count(folder):
    known = keys(folder)
    renamed = RECIPE.replace("  pruned:", "  other:").replace("[0.5, 0.8]", "[0.8, 0.5]")
    written_out = RECIPE.replace("steps=8it", "optimizer=sgd,learning_rate=0.01,steps=8it")
    assert keys(folder, renamed) == keys(folder, written_out) == known
    assert keys(folder, RECIPE.replace("task: digits", "task: digits:batch_size=64")) == known


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("seeds: 2", "seeds: 3", 8),
        ("[0.5, 0.8]", "[0.5, 0.9]", 4),
        ("steps=8it", "steps=9it", 4),
        ("task: digits", "task: digits:batch_size=32", 0),
        ("task: digits", "task: digits:split_seed=1", 0),
    ],
)
def test_what_decides_the_result_counts(folder, old, new, kept):
    assert len(keys(folder) & keys(folder, RECIPE.replace(old, new))) == kept


def test_the_model_counts_not_its_name(folder):
    known = keys(folder)
    (folder / "tiny.pt2").rename(folder / "moved.pt2")
    text = RECIPE.replace("tiny.pt2", "moved.pt2")
    (folder / "sweep.yaml").write_text(text)
    assert {trial.key for trial in read_plan(folder / "sweep.yaml").trials()} == known


def test_files_that_specs_name_count(folder):
    Path("table.json").write_text("1")
    cell = replace(CELL, passes=("weight-prune:table=table.json",))
    before = trial_key(cell, 0, "m", "c")
    Path("table.json").write_text("2")
    assert trial_key(cell, 0, "m", "c") != before
    assert trial_key(CELL, 0, "m", "c") == trial_key(replace(CELL, method="b", model="n"), 0, "m", "c")
    others = (trial_key(CELL, 1, "m", "c"), trial_key(CELL, 0, "n", "c"), trial_key(CELL, 0, "m", "d"))
    assert trial_key(CELL, 0, "m", "c") not in others


def test_the_users_code_and_the_version_count(folder, monkeypatch):
    text = "from sparsify.tasks.digits import Digits\n\n\ndef make():\n    return Digits()\n"
    Path("own.py").write_text(text)
    task = resolve("own.py")
    first = common_digest(task, "own.py:make", "1x1x8x8", None)
    assert common_digest(task, "own.py:make", "1x1x8x8", None) == first
    Path("own.py").write_text(text + "# changed\n")
    second = common_digest(task, "own.py:make", "1x1x8x8", None)
    monkeypatch.setattr(module, "__version__", "99")
    assert len({first, second, common_digest(task, "own.py:make", "1x1x8x8", None)}) == 3


def test_what_computes_counts(folder, monkeypatch):
    plan = read_plan(write_sweep(folder))

    def keys_of(**options):
        return {trial.key for trial in plan.trials(**options)}

    found = [keys_of(), keys_of(device="cuda"), keys_of(threads=2)]
    monkeypatch.setattr(torch, "__version__", "99.0+cpu")
    found.append(keys_of())
    assert len(set.union(*found)) == 4 * len(found[0])
    monkeypatch.setattr(torch, "__version__", "99.0+cu130")
    assert keys_of() == found[3]
    assert keys_of(device="cuda") == keys_of(device="cuda:1")


def test_a_folder_has_the_digest_of_its_files(folder):
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    before = path_digest(model)
    assert path_digest(model) == before
    (model / "weights").write_text("w")
    assert path_digest(model) != before
