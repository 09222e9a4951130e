"""pai: every criterion prunes to the exact count before the training, masks stay, and controls keep as much."""

import pytest
import torch
from helpers.networks_sequence import LstmClassifier
from helpers.regression import Regression
from helpers.residual import resnet
from helpers.sparse import Clusters, program_of
from torch import nn

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.methods.pai import Pai
from sparsify.registry import entries
from sparsify.tickets.initialization import initial
from sparsify.tickets.ticket import Ticket
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

TOTAL = 12 * 32 + 32 * 16 + 16 * 4
CRITERIA = [
    entry.name
    for entry in entries("sparsify.criteria").values()
    if "weights" in entry.scores and entry.name != "rnn-jacobian"
]
ROUNDS = {"synflow": 100, "force": 60, "iterative-snip": 60, "snip-it": 5}


def play(program=None, task=None, seed=0, work=None, **options):
    options = {"steps": "6it", "audit": True, **options}
    if options.get("unit", "weights") != "layers" and "pattern" not in options:
        options = {"sparsity": 0.9, **options}
    return Pai(**options).retrain(program or program_of(), task or Clusters(), seed=seed, work=work or Work())


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def kept(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_prunes_the_untrained_network_to_the_exact_count_as_weight_prune_does(criterion):
    found = play(criterion=criterion)
    expected = sp.run(program_of(), [f"weight-prune:sparsity=0.9,criterion={criterion},allow_collapse=yes"], Clusters())
    assert same(found.program.masks, expected.program.masks)
    record = found.record
    assert (record["kept"], record["wanted"], record["masked_weights"]) == (96, 96, TOTAL)
    assert record["scored"] == ROUNDS.get(criterion, 1)
    assert {name: item["kept"] for name, item in record["layers"].items()} == kept(found.program.masks)
    assert sum(item["weights"] for item in record["layers"].values()) == TOTAL


def test_a_criterion_of_recurrent_layers():
    torch.manual_seed(0)
    model = LstmClassifier()
    tokens = torch.randint(0, 20, (2, 7))
    program = sp.capture(model, (tokens,))

    class Words:
        name = "words"

        def batches(self, split, *, seed=0):
            return [(tokens, torch.tensor([0, 1]))] * 3

        def loss(self, module, batch):
            return nn.functional.cross_entropy(module(batch[0]), batch[1])

        def score(self, module):
            return sp.Score(0.5, "accuracy", 2)

    found = play(program, Words(), criterion="rnn-jacobian", only=("lstm.weight*",), sparsity=0.5)
    assert all(name.startswith("lstm.weight") for name in found.program.masks)
    assert found.record["kept"] == found.record["wanted"]


def test_what_is_left_is_trained_from_its_own_weights_with_masks_that_stay():
    found = play(criterion="snip", steps="8it")
    pruned = sp.run(program_of(), ["weight-prune:sparsity=0.9,criterion=snip"], Clusters()).program
    again = train(pruned, Clusters(), TrainOptions(steps="8it"))
    assert found.losses == again.losses
    assert same(found.program.parameters, again.program.parameters)
    assert same(found.program.masks, pruned.masks)
    assert found.program.history == ()


def test_weights_may_be_drawn_first_and_the_ticket_remembers_the_seed():
    found = play(init="kaiming", seed=4, criterion="magnitude")
    start = initial(program_of(), 4, "kaiming")
    values = torch.cat([start.parameters[name].detach().abs().flatten() for name in found.program.masks])
    least = values.sort(descending=True).values[95]
    assert all(torch.equal(m, start.parameters[n].abs() >= least) for n, m in found.program.masks.items())
    (ticket,) = found.tickets
    assert (ticket.weights, ticket.init) == ({}, {"init": "kaiming", "seed": 4})
    assert train(ticket.apply(program_of(9)), Clusters(), TrainOptions(steps="6it"), seed=4).losses == found.losses


@pytest.mark.parametrize("ratios", ["snip", "synflow", "force"])
def test_random_places_with_the_ratios_of_a_criterion(ratios):
    chosen, drawn = play(criterion=ratios), play(criterion="random", ratios=ratios)
    assert kept(chosen.program.masks) == kept(drawn.program.masks)
    assert not same(chosen.program.masks, drawn.program.masks)


@pytest.mark.parametrize("allocation", ["erk", "smart", "snip-ratios"])
def test_random_places_by_an_allocation(allocation):
    found = play(criterion="random", allocation=allocation)
    spec = f"weight-prune:sparsity=0.9,criterion=random,allocation={allocation}"
    assert same(found.program.masks, sp.run(program_of(), [spec], Clusters()).program.masks)
    assert found.record["kept"] == 96


def test_patterns():
    found = play(pattern="2:4")
    assert all(bool((mask.view(-1, 4).sum(1) == 2).all()) for mask in found.program.masks.values())
    assert (found.record["kept"], found.record["wanted"]) == (TOTAL // 2, None)


def test_layers_are_scored_before_anything_is_trained():
    program, task = resnet()[1], Regression((3, 8, 8), 3, count=3)
    options = {"unit": "layers", "criterion": "snip", "count": 2, "controls": ("random", "reinit", "dense")}
    slow, fast = (play(program, task, learning_rate=rate, **options) for rate in (1e-9, 1e-4))
    expected = sp.run(program, ["layer-prune:count=2,criterion=snip"], task)
    removed = expected.report["passes"][0]["removed"]
    assert slow.record["removed"] == fast.record["removed"] == removed
    assert fast.tickets[0].removed == tuple(removed)
    assert same(fast.tickets[0].apply(program).parameters, expected.program.parameters)
    entries_ = {item["network"]: item for item in [*fast.record["rounds"], *fast.record["controls"]]}
    assert entries_["ticket"]["macs_share"] == entries_["reinit"]["macs_share"] < entries_["dense"]["macs_share"] == 1
    assert entries_["random"]["macs_share"] < 1
    assert (fast.record["masked_weights"], fast.record["layers"]) == (0, {})


def test_channels_in_the_rounds_of_the_criterion():
    found = play(unit="channels", criterion="snip-it", sparsity=0.5, controls=("shuffle", "invert"))
    spec = "channel-prune:sparsity=0.5,criterion=snip-it,scope=global,rounds=5"
    expected = sp.run(program_of(), [spec], Clusters())
    assert same(found.program.masks, expected.program.masks)
    assert found.record["groups"] == expected.report["passes"][0]["groups"]
    assert found.record["scored"] == 5
    small = sp.run(found.program, ["shrink"]).program
    assert sum(value.numel() for value in small.parameters.values()) < TOTAL
    with pytest.raises(UsageError, match="Put the pass shrink before"):
        play(found.program, unit="channels", sparsity=0.5)


def test_channels_that_are_removed_at_once_leave_no_ticket(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
    program = sp.capture(model, (torch.randn(4, 12),))
    found = play(program, unit="channels", sparsity=0.5, work=Work(tmp_path, {}))
    assert found.program.parameters["0.weight"].shape == (16, 12)
    assert found.tickets == ()
    assert not list(tmp_path.glob("*.ticket"))


@pytest.mark.parametrize("criterion", ["snip", "random"])
def test_controls_keep_as_many_weights_of_every_layer_and_differ_where_they_should(monkeypatch, criterion):
    seen = {}
    original = Work.train

    def watch(self, name, program, *more, **options):
        seen[name] = program
        return original(self, name, program, *more, **options)

    monkeypatch.setattr(Work, "train", watch)
    names = ("reinit", "random", "shuffle", "invert", "small-dense", "dense")
    record = play(criterion=criterion, controls=names, init="torch").record
    assert [item["control"] for item in record["controls"]] == list(names)
    ticket = seen["ticket"]
    for name in names[:4]:
        assert kept(seen[name].masks) == kept(ticket.masks)
        assert same(seen[name].masks, ticket.masks) == (name == "reinit")
        assert same(seen[name].parameters, ticket.parameters) == (name in ("shuffle", "invert"))
    assert seen["dense"].masks == seen["small-dense"].masks == {}
    assert same(seen["dense"].parameters, initial(program_of(), 0).parameters)
    assert record["start_score"] == record["controls"][-1]["score"]
    bar = record["rounds"][0]["score"] - 0.01
    good = [item["control"] for item in record["controls"][:-1] if item["score"] >= bar]
    assert [item["control"] for item in record["controls_as_good"]] == good


def test_inverted_scores_keep_the_lowest_of_each_layer(monkeypatch):
    seen = {}
    original = Work.train
    monkeypatch.setattr(
        Work, "train", lambda self, name, program, *more, **o: seen.update({name: program}) or original(
            self, name, program, *more, **o))  # fmt: skip
    play(criterion="magnitude", scope="layer", controls=("invert",))
    for name, mask in seen["invert"].masks.items():
        size = seen["invert"].parameters[name].detach().abs()
        assert size[mask].max() <= size[~mask].min()


def warnings_of(**options):
    events = []
    found = play(work=Work(listeners=(events.append,)), **options)
    return found.record, [event["text"] for event in events if event["event"] == "warning"]


def test_a_layer_that_collapses_is_warned_of_and_told():
    record, (text,) = warnings_of(criterion="magnitude", sparsity=0.9)
    assert record["empty"] == ["2.weight"]
    assert text.startswith("Layer collapse: criterion=magnitude keeps nothing of 2.weight, so that no signal passes")
    assert record["layers"]["2.weight"] == {"kept": 0, "weights": 512}
    assert warnings_of(criterion="magnitude", scope="layer")[1] == []
    assert warnings_of(criterion="synflow", sparsity=0.99)[0]["empty"] == []


def test_the_steps_of_all_trainings_are_known_and_a_folder_keeps_them(tmp_path):
    seen = []
    work = Work(tmp_path, {}, on_step=lambda event: seen.append((event.steps_done, event.steps_of_all)))
    found = play(work=work, controls=("reinit", "dense"))
    assert seen == [(number, 18) for number in range(1, 19)]
    work.close()
    assert same(Ticket.load(tmp_path / "pai.ticket").masks, found.tickets[0].masks)
    again = play(work=Work(tmp_path, {}), controls=("reinit", "dense"))
    assert again.record == found.record


def test_through_the_front_door():
    result = sp.retrain(program_of(), "pai:criterion=cops/balance=0.3,sparsity=0.8,steps=4it,protect=4", Clusters())
    assert result.report["retrain"]["method"] == "pai:steps=4it,criterion=cops/balance=0.3,sparsity=0.8,protect=4"
    assert result.program.masks.keys() == {"0.weight", "2.weight"}
    assert result.ticket.sparsity == pytest.approx(0.8, abs=1e-3)
    assert result.ticket.record["criterion"] == "cops/balance=0.3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"^pai needs sparsity="),
        ({"unit": "channels"}, r"^pai needs sparsity=, the fraction of the channels"),
        ({"sparsity": 1.0}, r"^pai: sparsity=1.0 is not in \[0, 1\)"),
        ({"sparsity": 0.5, "criterion": "snipp"}, "did you mean 'snip'"),
        ({"sparsity": 0.5, "ratios": "wanda"}, r"^pai: ratios=wanda: its scores of different layers do not compare"),
        ({"sparsity": 0.5, "ratios": "snip", "allocation": "erk"}, r"^pai: allocation= and ratios= both say"),
        ({"sparsity": 0.5, "scope": "global", "allocation": "erk"}, r"^pai: with scope=global the scores allocate"),
        ({"sparsity": 0.5, "rounds": 0}, r"^pai: rounds=0 is less than 1"),
        ({"sparsity": 0.5, "batches": 0}, r"^pai: batches=0 is less than 1"),
        ({"sparsity": 0.5, "margin": -1.0}, r"margin=-1.0 is not a number of at least 0"),
        ({"sparsity": 0.5, "count": 2}, r"^pai: count= is for unit=layers, not for unit=weights"),
        ({"unit": "layers", "pattern": "2:4"}, r"pattern= is for unit=weights, not for unit=layers"),
        ({"unit": "layers", "rounds": 3}, r"rounds= is for unit=weights and unit=channels, not for unit=layers"),
        ({"unit": "layers", "sparsity": 0.5, "count": 2}, r"^pai takes one of count, sparsity"),
        ({"unit": "layers", "controls": ("invert",)}, r"controls=invert are not for layers; take reinit"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message) as told:
        Pai(**options)
    assert "prune:" not in str(told.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sparsity=0.5,protect=nothere", r"^pai: protect=nothere matches no parameter"),
        ("sparsity=0.5,criterion=kl", r"^pai: The criterion kl scores channels"),
        ("unit=layers", r"^pai: The model has no residual block"),
    ],
)
def test_errors_speak_of_pai_and_not_of_the_passes_that_it_uses(spec, message):
    with pytest.raises(PassError, match=message):
        sp.retrain(program_of(), f"pai:{spec}", Clusters())


def test_a_criterion_that_knows_no_weight_is_not_said_to_be_protected_from():
    with pytest.raises(PassError, match=r"no score for any weight, such as .* Take another criterion") as refused:
        sp.retrain(program_of(), "pai:criterion=rnn-jacobian,sparsity=0.5,steps=1it", Clusters())
    assert "protect=" not in str(refused.value)


def test_compact_leaves_the_dense_control_whole():
    words = "pai:sparsity=0.8,steps=6it,controls=dense,random"
    whole, compact = (sp.retrain(program_of(), words + more, Clusters()) for more in ("", ",compact=yes"))
    assert whole.report["retrain"]["controls"] == compact.report["retrain"]["controls"]
    assert all(torch.equal(value, compact.program.parameters[n]) for n, value in whole.program.parameters.items())
