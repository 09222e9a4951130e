"""Sweep files: what they say, and what is wrong with them, with the line."""

import pytest
from helpers.sweeps import RECIPE, write_sweep

from sparsify.errors import InputError, UsageError
from sparsify.sweeps.recipe import read_plan


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(folder, text=RECIPE):
    return read_plan(write_sweep(folder, text))


def test_every_method_at_every_sparsity_is_a_cell(folder):
    found = plan(folder)
    assert [(cell.model, cell.method, cell.sparsity) for cell in found.cells] == [
        ("tiny.pt2", "pruned", 0.5), ("tiny.pt2", "pruned", 0.8),
        ("tiny.pt2", "untrained", 0.5), ("tiny.pt2", "untrained", 0.8),
    ]  # fmt: skip
    assert found.cells[1].passes == ("weight-prune:sparsity=0.8,criterion=random",)
    assert (found.cells[1].retrain, found.cells[2].retrain) == ("fine-tune:steps=8it", None)
    assert (found.seeds, found.task, found.inputs, found.factory) == ((0, 1), "digits", None, None)
    trials = found.trials("--trust")
    assert len({trial.key for trial in trials}) == len(trials) == 8
    assert trials[1].command == (
        "sparsify tiny.pt2 --pass weight-prune:sparsity=0.5,criterion=random --retrain fine-tune:steps=8it "
        "--task digits --seed 1 --trust"
    )


def test_a_method_that_says_no_sparsity_is_run_once(folder):
    text = RECIPE.replace("untrained: weight-prune:sparsity=$sparsity", "dense:\n    retrain: fine-tune")
    dense = [cell for cell in plan(folder, text).cells if cell.method == "dense"]
    assert [(cell.sparsity, cell.passes, cell.retrain) for cell in dense] == [(None, (), "fine-tune")]


def test_options_may_be_written_below_a_name(folder):
    below = "passes:\n      - weight-prune:\n          sparsity: $sparsity\n          criterion: random"
    text = RECIPE.replace("passes: weight-prune:sparsity=$sparsity,criterion=random", below)
    assert plan(folder, text).cells == plan(folder).cells


def test_seeds_may_be_listed(folder):
    assert plan(folder, RECIPE.replace("seeds: 2", "seeds: [7, 3]")).seeds == (7, 3)
    assert plan(folder, RECIPE.replace("seeds: 2\n", "")).seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 2", "seed: 2", r"line 8: a sweep has no 'seed' \(did you mean 'seeds'"),
        ("seeds: 2", "seeds: 0", "line 8: seeds must be"),
        ("seeds: 2", "seeds: [1, 1]", "line 8: seeds has a value twice"),
        ("[0.5, 0.8]", "[0.5, 1]", "line 7: sparsity must be fractions from 0"),
        ("[0.5, 0.8]", "half", "line 7: sparsity must be fractions such as"),
        ("sparsity: [0.5, 0.8]\n", "", "line 4: the method pruned says .sparsity, and the sweep has no sparsity"),
        ("sparsity=$sparsity,", "sparsity=$density,", r"line 4: \$density stands for nothing"),
        ("$sparsity", "0.5", "line 7: no method says .sparsity"),
        ("  untrained: weight-prune", "  untrained: weight-prun", "line 6: There is no pass 'weight-prun'"),
        ("steps=8it", "step=8it", "line 5: fine-tune has no option 'step'"),
        ("retrain: fine", "retrian: fine", r"line 5: a method has no 'retrian' \(did you mean 'retrain'"),
        ("untrained: weight-prune:sparsity=$sparsity", "untrained:", "the method untrained does nothing"),
        ("task: digits", "task: digit", "line 9: There is no built-in task 'digit'"),
        ("task: digits\n", "", "has no task"),
        ("task: digits", "task: digits\ninputs: 1x", "line 10: "),
        ("  pruned:", "  untrained:", "untrained is given twice"),
        ("  pruned:", '  "":', "line 3: a method has no name"),
        ("  pruned:", '  " ":', "line 3: a method has no name"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder, old, new, message):
    assert old in RECIPE
    with pytest.raises(UsageError, match=message):
        plan(folder, RECIPE.replace(old, new))


def test_a_model_that_is_missing(folder):
    with pytest.raises(InputError, match=r"line 1: gone.pt2 cannot be opened"):
        plan(folder, RECIPE.replace("tiny.pt2", "[tiny.pt2, gone.pt2]"))
