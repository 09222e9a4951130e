"""Working: trials in this process, alone and several seeds at once, and what goes wrong in one."""

from dataclasses import replace

import pytest
import torch
from helpers.sweeps import RECIPE, fail_at, write_sweep

from sparsify.sweeps import working
from sparsify.sweeps.recipe import read_plan
from sparsify.sweeps.store import Store, read_report
from sparsify.sweeps.trials import Sweep
from sparsify.sweeps.working import Runner, run_here, take


@pytest.fixture
def whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = read_plan(write_sweep(tmp_path, RECIPE.replace("[0.5, 0.8]", "0.8")))
    sweep = Sweep(tmp_path / "out", plan.trials(), plan.task, most=2)
    Store(sweep.folder).enqueue(sweep.trials)
    return sweep


def scores(sweep):
    return [read_report(sweep.folder, trial)["score"] for trial in sweep.trials]


def test_seeds_at_once_give_what_they_give_alone(whole, tmp_path):
    together, alone = (replace(whole, folder=tmp_path / name, together=name) for name in ("yes", "no"))
    for sweep in (together, alone):
        Store(sweep.folder).enqueue(sweep.trials)
        run_here(sweep)
    assert scores(together) == pytest.approx(scores(alone), abs=0.005)  # two of 450 digits
    first, second = (read_report(sweep.folder, sweep.trials[0]) for sweep in (together, alone))
    assert first["retrain"]["together"] == 2
    assert "together" not in second["retrain"]
    same = ("pipeline", "before", "after", "pruned", "passes", "command", "key", "threads")
    for report in (first, second):
        for step in report["passes"]:
            step.pop("seconds"), step.pop("verify_seconds")
    assert {key: first[key] for key in same} == {key: second[key] for key in same}
    assert first["retrain"]["final_loss"] == pytest.approx(second["retrain"]["final_loss"], rel=1e-3)
    log = tmp_path / "no" / "trials" / whole.trials[0].key / "log.jsonl"
    assert "trained" in log.read_text()


@pytest.mark.parametrize(
    ("retrain", "most", "why"),
    [
        ("fine-tune:steps=8it,clip=1", 2, "clip=1.0 is for single trainings"),
        ("lth:rounds=1,steps=8it", 2, "is more than one plain training"),
        ("fine-tune:steps=8it", 1, "there are few trials for so many --jobs"),
    ],
)
def test_it_says_why_seeds_do_not_go_together(tmp_path, monkeypatch, retrain, most, why):
    monkeypatch.chdir(tmp_path)
    plan = read_plan(write_sweep(tmp_path, RECIPE.replace("fine-tune:steps=8it", retrain)))
    sweep = Sweep(tmp_path / "out", plan.trials()[:2], plan.task, together="yes", most=most)
    Store(sweep.folder).enqueue(sweep.trials)
    run_here(sweep)
    assert [why in read_report(sweep.folder, trial)["one_by_one"] for trial in sweep.trials] == [True, True]


def test_how_many_seeds_go_together(whole, monkeypatch):
    pruned, untrained = whole.trials[0].cell, whole.trials[-1].cell
    asked = []
    monkeypatch.setattr(working, "together_pays", lambda *args: (asked.append(args) or len(asked) < 2, "told"))
    runner = Runner(whole)
    assert [runner.at_once(untrained, (0, 1)), runner.at_once(pruned, (0,))] == [1, 1]
    assert [runner.at_once(pruned, (0, 1, 2)) for _ in range(2)] == [2, 2]  # whole.most
    assert len(asked) == 1
    assert Runner(whole).at_once(pruned, (0, 1)) == 1
    assert Runner(replace(whole, together="no")).at_once(pruned, (0, 1)) == 1
    assert Runner(replace(whole, together="yes")).at_once(pruned, (0, 1)) == 2


def test_a_trial_takes_seeds_of_its_cell_with_it(whole):
    store, runner = Store(whole.folder), Runner(replace(whole, together="yes"))
    taken = [take(store, whole, runner) for _ in range(3)]  # whose locks are held as long as they are
    assert [[claim.trial for claim in claims] for claims in taken] == [
        list(whole.trials[:2]), [whole.trials[2]], [whole.trials[3]],
    ]  # fmt: skip
    assert take(store, whole, runner) == []


@pytest.mark.parametrize(
    ("error", "told"), [(ValueError("gone wrong"), "ValueError: gone wrong"), (MemoryError(), "MemoryError: ")]
)
def test_a_trial_that_fails_does_not_stop_the_others(whole, monkeypatch, error, told):
    fail_at(monkeypatch, 1, error)
    run_here(replace(whole, together="no"))
    store = Store(whole.folder)
    assert store.counts(whole.trials) == {"complete": 2, "fail": 2}
    assert set(store.errors(whole.trials).values()) == {told}


def test_a_score_that_is_no_number_has_failed(whole, monkeypatch):
    execute = working.execute

    def scoreless(*args, **rest):
        result = execute(*args, **rest)
        return replace(result, report={**result.report, "score": float("nan")})

    monkeypatch.setattr(working, "execute", scoreless)
    (outcome,) = Runner(whole).run(whole.trials[-1:])
    assert outcome == {"error": "its score is not a number (NaN)"}


def test_an_interruption_leaves_trials_to_others(whole, monkeypatch):
    def interrupted(*args, **rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(working, "execute", interrupted)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        run_here(replace(whole, together="no", threads=1))
    assert torch.get_num_threads() == before
    assert Store(whole.folder).counts(whole.trials) == {"waiting": 4}
