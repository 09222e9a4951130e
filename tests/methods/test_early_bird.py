"""early-bird: when it stops, what it prunes and trains, and the same bits after an interruption."""

import json

import pytest
import torch
from helpers.attending import attending
from helpers.command import sparsify
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.errors import OptionError, UsageError
from sparsify.methods.early_bird import EarlyBird
from sparsify.tickets.ticket import Ticket
from sparsify.training.penalized import PenalizedTask
from sparsify.training.train import train
from sparsify.training.work import Work

EPOCH = 8  # steps
TASK = "import sys\nsys.path.insert(0, {tests!r})\nfrom helpers.sparse import Clusters\n"


def run(program=None, *, work=None, **options):
    method = EarlyBird(**{"steps": "12ep", "distance": 0.2, "window": 3, "audit": True, **options})
    return method.retrain(program or program_of(norm=True), Clusters(), seed=0, work=work or Work()), method


def record_of(trained):
    return trained.record["early_bird"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_it_stops_at_the_first_window_of_masks_that_agree():
    trained, _ = run()
    record = record_of(trained)
    assert record["found"]
    assert record["masks"][-1]["largest"] < 0.2
    assert all(item["largest"] is None or item["largest"] >= 0.2 for item in record["masks"][:-1])
    assert record["step"] == EPOCH * record["mask"] == EPOCH * len(record["masks"])
    assert record["masks_in_all"] == 12
    assert record["share"] == record["step"] / (12 * EPOCH) < 1
    assert len(trained.losses) == 12 * EPOCH


def test_the_mask_is_that_of_the_scales_at_the_stop_and_the_weights_go_on_from_there():
    trained, method = run(sparsity=0.25, shrink=False)
    stop = record_of(trained)["step"]
    task = PenalizedTask(Clusters(), ["1.weight"], 1e-4)
    before = train(program_of(norm=True), task, method, span=(0, stop)).program
    lowest = before.parameters["1.weight"].detach().abs().argsort()[:8]
    masks = trained.program.masks
    assert set((~masks["1.weight"]).nonzero().flatten().tolist()) == set(lowest.tolist())
    assert not masks["0.weight"][lowest].any()
    assert not masks["3.weight"][:, lowest].any()
    expected = train(sp.run(before, ["channel-prune:sparsity=0.25,criterion=norm-scale,protect=5"]).program,
                     Clusters(), method, span=(stop, None)).program  # fmt: skip
    assert same(trained.program.parameters, expected.parameters)
    (ticket,) = trained.tickets
    assert same(ticket.apply(program_of(7, norm=True)).parameters, before.parameters)


def test_from_the_start_it_is_trained_for_all_steps():
    trained, method = run(weights="start", shrink=False)
    (ticket,) = trained.tickets
    begin = ticket.apply(program_of(9, norm=True))
    assert same(begin.parameters, program_of(norm=True).parameters)
    assert same(trained.program.parameters, train(begin, Clusters(), method).program.parameters)


def test_what_is_pruned_is_removed_before_it_is_trained():
    trained, _ = run(sparsity=0.25)
    assert trained.program.masks == {}
    assert trained.program.parameters["0.weight"].shape == (24, 12)
    assert trained.program.parameters["3.weight"].shape == (16, 24)
    whole = sp.run(trained.tickets[0].apply(program_of(norm=True)), ["shrink"]).program
    assert whole.parameters["0.weight"].shape == (24, 12)


def test_heads_leave_no_coefficients_behind():
    program = attending()
    trained, _ = run(program, unit="heads", optimizer="adamw", learning_rate=0.01, steps="20ep")
    assert record_of(trained)["groups"] == {"q/heads": "4 -> 2", "up": "24 -> 12"}
    assert trained.program.parameters.keys() == program.parameters.keys()
    assert trained.program.buffers.keys() == program.buffers.keys()
    assert trained.program.parameters["o.weight"].shape == (16, 8)
    assert trained.program.parameters["up.weight"].shape == (12, 16)
    assert Clusters().score(trained.program.module()).value > 0.4  # a quarter is chance


def test_weights_stay_masked():
    trained, _ = run(program_of(), unit="weights", sparsity=0.8)
    kept = sum(int(mask.sum()) for mask in trained.program.masks.values())
    assert kept == round(0.2 * (12 * 32 + 32 * 16 + 16 * 4))
    assert same(trained.program.masks, trained.tickets[0].masks)


def test_where_masks_never_agree_it_warns_and_prunes_at_the_end():
    told = []
    trained, _ = run(steps="4ep", distance=1e-6, work=Work(listeners=(told.append,)))
    record = record_of(trained)
    assert (record["found"], record["share"], record["mask"]) == (False, 1.0, 4)
    (warning,) = [event["text"] for event in told if event["event"] == "warning"]
    assert "No early-bird ticket: in 32 steps the last 3 masks never came nearer" in warning
    assert "It is not trained behind that" in warning
    assert trained.program.parameters["0.weight"].shape == (16, 12)
    assert len(trained.losses) == 4 * EPOCH
    begun, _ = run(steps="4ep", distance=1e-6, weights="start")
    assert len(begun.losses) == 8 * EPOCH


def test_a_ticket_that_is_found_too_late_to_be_trained_is_warned_of():
    told = []
    mask = record_of(run(schedule="constant")[0])["mask"]
    late, _ = run(steps=f"{mask}ep", schedule="constant", work=Work(listeners=(told.append,)))
    record = record_of(late)
    assert record["found"]
    assert record["mask"] == record["masks_in_all"]
    assert record["trained"] == 0
    (warning,) = [event["text"] for event in told if event["event"] == "warning"]
    assert "found with the last mask" in warning
    assert "smaller every=" in warning


@pytest.mark.parametrize("training", ["search", "ticket"])
def test_stopped_anywhere_it_ends_with_the_same_bits(tmp_path, monkeypatch, training):
    whole, _ = run()
    monkeypatch.setattr("sparsify.training.work.Checkpoints.due", lambda self: True)

    seen = []

    def counting(event):
        seen.append(event.training)
        if seen.count(training) == 11:
            raise SystemExit

    with pytest.raises(SystemExit):
        run(work=Work(tmp_path / "w", {"a": 1}, on_step=counting))
    again = Work(tmp_path / "w", {"a": 1})
    found, _ = run(work=again)
    assert same(found.program.parameters, whole.program.parameters)
    assert found.losses == whole.losses
    assert found.record == whole.record
    assert Ticket.load(tmp_path / "w" / "early.ticket").masks.keys() == whole.tickets[0].masks.keys()


@pytest.mark.parametrize("options", [{"unit": "weights"}, {"shrink": False}])
def test_compact_trains_the_ticket_alike(options):
    whole, _ = run(**options)
    compact, _ = run(**options, compact=True)
    assert compact.losses == whole.losses
    assert same(compact.program.parameters, whole.program.parameters)
    with pytest.raises(UsageError, match="compact=yes is for a ticket with masks"):
        run(compact=True)


def test_what_cannot_be_is_refused():
    with pytest.raises(OptionError, match="5 masks every 8 steps take 40 steps, and steps=4ep is 32"):
        run(steps="4ep", window=5)
    masked = sp.run(program_of(norm=True), ["weight-prune:sparsity=0.5"]).program
    with pytest.raises(OptionError, match="this one has masks"):
        run(masked)


def test_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sp.save(program_of(norm=True), "model.pt2")
    import helpers

    (tmp_path / "task.py").write_text(TASK.format(tests=str(next(iter(helpers.__path__))) + "/.."), encoding="utf-8")
    words = ["model.pt2", "--task", "task.py:Clusters", "--retrain"]
    ran = sparsify(*words, "early-bird:steps=12ep,window=3,distance=0.2", "-o", "a.ticket", "--report", "r.json")
    assert (ran.status, ran.err) == (0, "")
    assert "early-bird ticket at step" in ran.out
    assert "below 0.2 they agree" in ran.out
    record = json.loads((tmp_path / "r.json").read_text("utf-8"))["retrain"]["early_bird"]
    assert record["groups"] == {"0": "32 -> 16"}
    ran = sparsify("model.pt2", "--pass", "apply-ticket:file=a.ticket", "--pass", "shrink", "-o", "b.pt2")
    assert (ran.status, ran.err) == (0, "")
    assert sp.load("b.pt2").parameters["0.weight"].shape == (16, 12)
    ran = sparsify(*words, "early-bird:steps=4ep,window=3,distance=0.000001", "-o", "c.pt2")
    assert ran.status == 0
    assert "No early-bird ticket" in ran.err
    assert "no early-bird ticket: it was pruned at the end" in ran.out
    ran = sparsify(*words, "early-bird:unit=heads", "-o", "d.pt2")
    assert ran.status == 2
    assert "no attention head" in ran.err
