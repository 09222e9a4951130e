import json

import pytest
import torch
from helpers.command import example, small_program
from torch import nn

from sparsify.capture import capture
from sparsify.cost import cost
from sparsify.errors import ExportError, UsageError
from sparsify.pipeline import Result, execute, retrain, run, score
from sparsify.program import Program
from sparsify.task import Score, resolve


@pytest.fixture(scope="module")
def program():
    return small_program()


def test_run_reports_what_it_did(program):
    result = run(program, ["layer-prune:blocks=layer2.1"], seed=3)
    assert isinstance(result, Result)
    assert isinstance(result.program, Program)
    report = result.report
    assert report["pipeline"] == ["layer-prune:blocks=layer2.1"]
    assert report["seed"] == 3
    assert report["before"] == cost(program).as_dict()
    assert report["after"] == cost(result.program).as_dict()
    (step,) = report["passes"]
    assert (step["pass"], step["removed"], step["contract"]) == ("layer-prune:blocks=layer2.1", ["layer2.1"], "lossy")
    assert step["seconds"] >= 0 <= step["verify_seconds"]
    assert (report["score"], report["scores"], report["retrain"]) == (None, None, None)
    assert json.loads(json.dumps(report)) == report


def test_the_program_that_is_given_stays(program):
    text, state = str(program), {name: value.clone() for name, value in program.parameters.items()}
    execute(program, ["layer-prune"], "fine-tune:steps=2it", "digits", 0)
    assert str(program) == text
    assert all(torch.equal(value, program.parameters[name]) for name, value in state.items())


def test_a_task_scores_before_and_after(program):
    report = run(program, ["layer-prune"], task="digits").report
    scores = report["scores"]
    assert set(scores) == {"before", "after"}
    assert scores["before"] == score(program, resolve("digits"))
    assert report["score"] == scores["after"]["value"]
    assert (scores["after"]["name"], scores["after"]["n"]) == ("accuracy", 450)
    assert run(program, [], task=resolve("digits")).report["score"] == scores["before"]["value"]


def test_retrain_alone_has_no_pruned_score(program):
    result = retrain(program, "fine-tune:steps=3it", "digits", seed=1)
    assert set(result.report["scores"]) == {"before", "after"}
    assert result.report["retrain"]["steps"] == 3
    assert result.report["passes"] == []
    again = retrain(program, "fine-tune:steps=3it", "digits", seed=1)
    other = retrain(program, "fine-tune:steps=3it", "digits", seed=2)
    weights = [item.program.parameters["fc.weight"] for item in (result, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_passes_then_retraining_score_three_times(program):
    steps = []
    report = execute(program, ["layer-prune"], "fine-tune:steps=2it", "digits", 0, on_step=steps.append).report
    assert list(report["scores"]) == ["before", "pruned", "after"]
    assert len(steps) == 2


def test_retraining_needs_a_task(program):
    with pytest.raises(UsageError, match="Retraining needs data and a loss: give a task"):
        execute(program, [], "fine-tune", None, 0)


def test_the_observer_sees_every_event_and_verification_can_be_left_out(program):
    events = []
    report = run(program, ["layer-prune"], observer=events.append, verify=False).report
    assert [event.kind for event in events] == ["started", "transformed"]
    assert "contract" not in report["passes"][0]


class Broken:
    """A task whose score has a fault."""

    name = "broken"

    def batches(self, split, *, seed=0):
        return [(example(), torch.zeros(2, dtype=torch.long))]

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def score(self, model):
        return Score({}["missing"], "accuracy", 2)


def test_a_fault_in_the_users_task_is_theirs(program):
    with pytest.raises(UsageError, match="The task broken cannot score the model: KeyError: 'missing'"):
        run(program, [], task=Broken())


def test_notes_of_the_capture_are_reported():
    frozen = capture(nn.Sequential(nn.Flatten(0), nn.Linear(128, 2)), (example(),))
    report = run(frozen, []).report
    assert report["notes"] == list(frozen.notes)
    assert "fixes its batch size" in report["notes"][0]
    assert (report["macs_batch"], report["before"]["macs"]) == (2, cost(frozen).macs)


def test_masks_that_are_left_are_noted_by_what_they_leave_out(program):
    prune = "weight-prune:sparsity=0.5"
    (note,) = run(program, [prune]).report["notes"]
    assert "weights are masked: they are zeros" in note
    (note,) = run(program, ["embed:kind=interspace", f"{prune},only=layer1.*"]).report["notes"]
    assert note.endswith("the weights themselves need not have zeros.")


def test_a_console_shows_one_line(program):
    assert repr(run(program, [])) == f"<Result: {program!r}>"
    scored = run(program, [], task="digits")
    assert repr(scored) == f"<Result: {program!r}, score {scored.report['score']:.4g}>"


def test_what_is_no_program_or_no_list_is_refused(program):
    with pytest.raises(UsageError, match=r"A program is needed, not Linear"):
        run(nn.Linear(2, 2), ["layer-prune"])
    with pytest.raises(UsageError, match=r"A program is needed, not Linear"):
        retrain(nn.Linear(2, 2), "fine-tune", "digits")
    with pytest.raises(UsageError, match=r"A spec is a text such as 'layer-prune:count=1', not \('layer-prune', "):
        run(program, [("layer-prune", {"count": 1})])
    with pytest.raises(UsageError, match=r"list of specs: \['layer-prune'\]"):
        run(program, "layer-prune")


def test_a_score_that_is_no_score_is_the_tasks_fault(program, monkeypatch):
    task = resolve("digits")
    monkeypatch.setattr(type(task), "score", lambda self, model: 0.5)
    with pytest.raises(UsageError, match=r"must return a sparsify.Score from score, not float"):
        score(program, task)


def test_what_the_passes_made_is_checked_before_the_retraining(monkeypatch):
    program, seen = small_program(), []

    def check(after):
        seen.append(len(after.parameters))
        raise ExportError("it cannot be said")

    monkeypatch.setattr("sparsify.pipeline.run_method", lambda *args, **options: seen.append("trained"))
    with pytest.raises(ExportError, match="cannot be said"):
        execute(program, ["layer-prune"], "fine-tune:steps=1it", "digits", 0, check=check)
    assert seen == [len(program.parameters) - 6]


@pytest.mark.parametrize("spec", ["lower:by=bytes", "lower-index"])
def test_what_lowers_runs_behind_a_retraining(program, spec):
    passes, seen, steps = ["weight-prune:sparsity=0.9,scope=layer", spec], [], []

    def look(event):
        seen.append((event.spec, event.kind, len(steps)))

    result = execute(program, passes, "fine-tune:steps=3it", "digits", 0, observer=look, on_step=steps.append)
    kept = execute(program, passes[:1], "fine-tune:steps=3it", "digits", 0).program
    assert steps[0].density == pytest.approx(0.1, abs=0.02)  # masks were there
    assert cost(result.program).nonzero <= cost(kept).nonzero
    assert result.report["scores"]["after"]["value"] == pytest.approx(score(kept, resolve("digits"))["value"])
    assert [step["pass"] for step in result.report["passes"]] == result.report["pipeline"]
    assert [step.get("behind_retraining", False) for step in result.report["passes"]] == [False, True]
    assert seen[2:] == [
        (passes[0], "verified", 0),
        *((spec, kind, 3) for kind in ("started", "transformed", "verified")),
    ]
