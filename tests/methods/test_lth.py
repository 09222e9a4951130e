"""lth through the front door: the specs of the command, its report and its files."""

import json

import pytest
from helpers.command import sparsify
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.tickets.ticket import Ticket

TASK = """
import sys
sys.path.insert(0, {tests!r})
from helpers.sparse import Clusters
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sp.save(program_of(), "model.pt2")
    import helpers

    (tmp_path / "task.py").write_text(TASK.format(tests=str(next(iter(helpers.__path__))) + "/.."), encoding="utf-8")
    return tmp_path


def test_a_report_tells_the_rounds_and_the_winning_tickets():
    result = sp.retrain(program_of(), "lth:steps=2ep,rounds=2,rate=0.5,controls=random,reinit", Clusters())
    record = result.report["retrain"]
    assert (
        record["method"] == "lth:steps=2ep,rounds=2,controls=random,reinit,rate=0.5"
        or "controls=random,reinit" in (record["method"])
    )
    assert [item["round"] for item in record["rounds"]] == [0, 1, 2]
    assert result.ticket.sparsity == pytest.approx(0.75, abs=1e-3)
    assert json.loads(json.dumps(result.report)) == result.report


def test_from_the_command_line(folder):
    words = ["model.pt2", "--task", "task.py:Clusters", "--retrain", "lth:steps=6it,rounds=2,rate=0.5,controls=random"]
    ran = sparsify(*words, "--work", "work", "-o", "last.ticket", "-o", "small.onnx")
    assert (ran.status, ran.err) == (0, "")
    assert "ticket" in ran.out
    assert "--work work" in ran.out
    assert Ticket.load("last.ticket").sparsity == pytest.approx(0.75, abs=1e-3)
    assert (folder / "work" / "round-2.ticket").exists()
    again = sparsify(*words, "--work", "work")
    assert again.status == 0
    other = sparsify(*words, "--work", "work", "--seed", "3")
    assert other.status == 2
    assert "holds another retraining: its seed is 0" in other.err


def test_a_ticket_can_be_put_on_the_model_again(folder):
    sparsify("model.pt2", "--task", "task.py:Clusters", "--retrain", "lth:steps=4it,rounds=1", "-o", "a.ticket")
    ran = sparsify("model.pt2", "--pass", "apply-ticket:file=a.ticket", "-o", "b.pt2")
    assert (ran.status, ran.err) == (0, "")
    assert sp.load("b.pt2").masks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--retrain", "fine-tune", "--task", "task.py:Clusters", "-o", "a.ticket"],
            "Only --retrain lth, pai and early-bird find",
        ),
        (["--pass", "weight-prune:sparsity=0.5", "--work", "w"], "--work is about a retraining: give --retrain too"),
        (["--pass", "weight-prune:sparsity=0.5", "--track", "wandb"], "--track is about a retraining"),
        (["--pass", "weight-prune:sparsity=0.5", "--compact"], "--compact is about a retraining: give --retrain too"),
        (["--retrain", "lth:unit=layers", "--task", "task.py:Clusters", "--compact"], "unit=layers makes no masks"),
        (["--retrain", "fine-tune", "--task", "task.py:Clusters", "--compact"], "no weight is masked or frozen"),
        (["--retrain", "fine-tune", "--task", "task.py:Clusters", "--track", "wandbb"], "did you mean 'wandb'"),
        (["--retrain", "lth:round=2", "--task", "task.py:Clusters"], "did you mean 'rounds'"),
    ],
)
def test_what_does_not_fit_is_refused(folder, words, message):
    ran = sparsify("model.pt2", *words)
    assert ran.status == 2
    assert message in ran.err
    assert sorted(path.name for path in folder.iterdir() if path.suffix in (".ticket", "")) in ([], ["__pycache__"])


def test_an_unknown_criterion_is_refused_before_anything_is_trained():
    with pytest.raises(UsageError, match="did you mean 'snip'"):
        sp.retrain(program_of(), "lth:criterion=snipp", Clusters())
