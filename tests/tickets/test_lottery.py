"""The lottery: exact rounds, rewinding to the right weights, and controls that keep as much."""

import itertools

import pytest
import torch
from helpers.regression import Regression
from helpers.residual import resnet
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.methods.lth import Lth
from sparsify.tickets.initialization import initial
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

WEIGHTS = {"0.weight": 12 * 32, "2.weight": 32 * 16, "4.weight": 16 * 4}
TOTAL = sum(WEIGHTS.values())


def play(program=None, task=None, seed=0, **options):
    options = {"steps": "8it", "rounds": 2, "rate": 0.5, "audit": True, **options}
    return Lth(**options).retrain(program or program_of(), task or Clusters(), seed=seed, work=Work())


def kept(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}


def test_every_round_prunes_a_share_of_what_is_left_exactly():
    found = play(rounds=4, rate=0.3)
    densities = [item["density"] for item in found.record["rounds"]]
    assert densities == [1.0, *((TOTAL - round((1 - 0.7**k) * TOTAL)) / TOTAL for k in range(1, 5))]
    nested = [ticket.masks for ticket in found.tickets]
    for one, other in itertools.pairwise(nested):
        assert all(not bool((other[name] & ~mask).any()) for name, mask in one.items())


def test_per_layer_the_output_layer_goes_at_half_the_rate():
    found = play(rounds=3, rate=0.2, scope="layer", last="half")
    expected = {name: round(size * (0.9 if name == "4.weight" else 0.8) ** 3) for name, size in WEIGHTS.items()}
    for name, count in kept(found.tickets[-1].masks).items():
        assert count == pytest.approx(expected[name], abs=1)


def test_what_stays_is_what_training_made_largest():
    found = play(rounds=1, rate=0.6)
    dense = train(program_of(), Clusters(), TrainOptions(steps="8it")).program
    values = torch.cat([dense.parameters[name].detach().abs().flatten() for name in WEIGHTS])
    threshold = values.sort().values[round(0.6 * TOTAL)]
    for name, mask in found.tickets[0].masks.items():
        assert torch.equal(mask, dense.parameters[name].detach().abs() >= threshold)


def test_weights_go_back_to_the_start():
    found = play()
    for ticket in found.tickets:
        for name, value in program_of().parameters.items():
            assert torch.equal(ticket.weights[name], value)
    again = train(found.tickets[-1].apply(program_of()), Clusters(), TrainOptions(steps="8it"))
    assert again.losses == found.losses  # a ticket is all that is needed to get the same network


def test_weights_go_back_to_a_later_step():
    found = play(rewind="3it")
    early = train(program_of(), Clusters(), TrainOptions(steps="8it"), span=(0, 3)).program
    for name, value in early.parameters.items():
        assert torch.equal(found.tickets[-1].weights[name], value)
    assert len(found.losses) == 5


@pytest.mark.parametrize("mode", ["learning-rate", "fine-tune"])
def test_other_modes_keep_the_trained_weights(mode):
    found, rewound = play(mode=mode, rounds=1), play(rounds=1)
    for name, mask in found.tickets[-1].masks.items():
        assert torch.equal(mask, rewound.tickets[-1].masks[name])
    assert found.losses[0] < rewound.losses[0]  # it starts from what was trained
    rates = []
    method = Lth(steps="8it", rounds=1, rate=0.5, mode=mode)
    work = Work(on_step=lambda event: rates.append((event.training, round(event.learning_rate, 6))))
    method.retrain(program_of(), Clusters(), seed=0, work=work)
    last = [rate for name, rate in rates if name == "round-1"]
    first = [rate for name, rate in rates if name == "round-0"]
    assert last == (first if mode == "learning-rate" else [0.005] * 8)


def test_what_is_left_may_be_drawn_anew():
    found = play(mode="reinit", rounds=1)
    expected = initial(play(rounds=1).tickets[0].apply(program_of()), 1)
    for name, value in expected.parameters.items():
        assert torch.equal(found.tickets[0].weights[name], value)


def test_before_training_only_the_start_is_looked_at():
    found = play(when="init", criterion="snip", rounds=2, controls=("dense",), controls_at="last")
    assert [item["round"] for item in found.record["rounds"]] == [1, 2]
    expected = sp.run(program_of(), ["weight-prune:sparsity=0.75,criterion=snip,allow_collapse=yes"], Clusters())
    one, two = found.tickets
    assert sum(kept(two.masks).values()) == sum(kept(expected.program.masks).values())
    assert sum(kept(one.masks).values()) == TOTAL // 2
    assert found.record["start_score"] == found.record["controls"][0]["score"]


def test_controls_keep_as_many_weights_of_every_layer_and_differ_where_they_should(monkeypatch):
    seen = {}
    original = Work.train

    def watch(self, name, program, *more, **options):
        seen[name] = program
        return original(self, name, program, *more, **options)

    monkeypatch.setattr(Work, "train", watch)
    found = play(controls=("reinit", "random", "shuffle", "invert", "small-dense"))
    ticket = seen["round-2"]
    assert [item["control"] for item in found.record["controls"]] == [
        "reinit", "random", "shuffle", "invert", "small-dense"
    ]  # fmt: skip
    for control in ("reinit", "random", "shuffle", "invert"):
        other = seen[f"{control}-2"]
        assert kept(other.masks) == kept(ticket.masks)
        same_masks = all(torch.equal(mask, other.masks[name]) for name, mask in ticket.masks.items())
        same_weights = all(torch.equal(value, other.parameters[name]) for name, value in ticket.parameters.items())
        assert (same_masks, same_weights) == (control == "reinit", control in ("shuffle", "invert"))
    small = seen["small-dense-2"]
    left = sum(v.numel() for v in ticket.parameters.values()) - (TOTAL - sum(kept(ticket.masks).values()))
    assert small.masks == {}
    assert sum(value.numel() for value in small.parameters.values()) == pytest.approx(left, rel=0.1)


def test_controls_at_every_round():
    found = play(controls=("random",), controls_at="all")
    assert [item["round"] for item in found.record["controls"]] == [1, 2]


def test_patterns():
    found = play(rounds=1, pattern="1:4")
    assert all(bool((mask.view(-1, 4).sum(1) == 1).all()) for mask in found.tickets[0].masks.values())
    tiles = play(rounds=1, pattern="block4", scope="layer")
    assert all(bool(t.all() or not t.any()) for mask in tiles.tickets[0].masks.values()
               for row in mask.split(4) for t in row.split(4, 1))  # fmt: skip


def test_channels():
    found = play(unit="channels", rounds=2, rate=0.25)
    mask = found.tickets[-1].masks["0.weight"]
    assert bool((mask.all(1) | ~mask.any(1)).all())
    program = sp.run(found.program, ["shrink"]).program
    assert sum(value.numel() for value in program.parameters.values()) < 0.8 * sum(WEIGHTS.values())


@pytest.mark.parametrize("when", ["trained", "init"])
def test_layers(when):
    program, task = resnet()[1], Regression((3, 8, 8), 3, count=3)
    found = play(program, task, unit="layers", rounds=2, when=when, learning_rate=1e-4, controls=("reinit", "random"))
    first, last = found.record["rounds"][-2:]
    assert (len(first["removed"]), len(last["removed"])) == (1, 2)
    assert last["macs_share"] < first["macs_share"] < 1
    ticket = found.tickets[-1]
    assert ticket.removed == tuple(last["removed"])
    again = ticket.apply(program)
    assert again.parameters.keys() == found.program.parameters.keys()
    for name, value in again.parameters.items():
        assert torch.equal(value, program.parameters[name])
    random = next(item for item in found.record["controls"] if item["control"] == "random")
    assert random["macs_share"] < 1


def test_weights_are_drawn_anew_and_the_ticket_remembers_the_seed():
    found = play(init="kaiming", seed=4)
    ticket = found.tickets[-1]
    assert (ticket.weights, ticket.init) == ({}, {"init": "kaiming", "seed": 4})
    start = initial(program_of(), 4, "kaiming")
    for name, value in ticket.apply(program_of(9)).parameters.items():
        assert torch.equal(value, start.parameters[name])
    for options in ({"rewind": "2it"}, {"mode": "reinit"}):  # then no seed makes the weights again
        assert play(init="kaiming", **options).tickets[-1].init == {}


def test_the_record_says_which_tickets_win():
    record = play(rounds=3, rate=0.8, steps="60it", score_every="20it").record
    bar = record["start_score"] - record["margin"]
    assert record["winning"] == [item["round"] for item in record["rounds"][1:] if item["score"] >= bar]
    assert record["start_score"] == record["rounds"][0]["score"]
    for item in record["rounds"]:
        best = min(item["curve"], key=lambda point: point["validation_loss"])
        assert item["first_steps_to_best"] == best["step"]


@pytest.mark.parametrize(
    "options", [{}, {"rewind": "2it", "controls": ("reinit", "random")}, {"when": "init", "rounds": 1}]
)
def test_the_steps_of_all_trainings_are_known_from_the_first_on(options):
    seen = []
    work = Work(on_step=lambda event: seen.append((event.steps_done, event.steps_of_all)))
    Lth(**{"steps": "4it", "rounds": 2, **options}).retrain(program_of(), Clusters(), seed=0, work=work)
    assert seen == [(number, len(seen)) for number in range(1, len(seen) + 1)]


def test_tickets_are_files(tmp_path):
    work = Work(tmp_path, {})
    Lth(steps="4it", rounds=2, rate=0.5).retrain(program_of(), Clusters(), seed=0, work=work)
    assert sorted(path.name for path in tmp_path.glob("*.ticket")) == ["round-1.ticket", "round-2.ticket"]


@pytest.mark.parametrize("options", [{}, {"scope": "layer"}, {"pattern": "block4x4"}])
def test_a_ticket_is_gone_on_with(options):
    ticket = play(rounds=1, rate=0.3, **options).tickets[-1]
    found = play(ticket.apply(program_of()), rounds=2, rate=0.3, **options)
    densities = [entry["density"] for entry in found.record["rounds"]]
    assert densities == pytest.approx([0.7, 0.49, 0.343], abs=0.01)
    biases = 1 - TOTAL / sum(value.numel() for value in program_of().parameters.values())
    for entry in found.record["rounds"]:  # all shares are of the whole network
        assert entry["nonzero_share"] == pytest.approx(biases + (1 - biases) * entry["density"], abs=0.01)
    assert [entry["network"] for entry in found.record["rounds"]] == ["start", "ticket", "ticket"]
    assert found.record["start"] == "start"
    for name, mask in found.tickets[-1].masks.items():
        assert not bool((mask & ~ticket.masks[name]).any())
        assert torch.equal(found.tickets[-1].weights[name], ticket.weights[name])


def test_channels_that_masks_emptied_are_taken_out_first():
    ticket = play(unit="channels", rounds=1).tickets[-1]
    start = ticket.apply(program_of())
    with pytest.raises(UsageError, match="Put the pass shrink before"):
        play(start, unit="channels")
    small = sp.run(start, ["shrink"]).program
    assert play(small, unit="channels", rounds=1).record["rounds"][1]["nonzero_share"] < 0.6


@pytest.mark.parametrize("unit", [{"rate": 0.5, "criterion": "magnitude"}, {"unit": "layers", "criterion": "snip"}])
def test_before_training_every_round_looks_at_the_start(unit):
    program, task = (resnet()[1], Regression((3, 8, 8), 3)) if "unit" in unit else (program_of(), None)
    options = {"when": "init", "rounds": 2, "steps": "4it", **unit}
    slow, fast = (play(program, task, learning_rate=rate, **options) for rate in (1e-9, 1e-3))
    for one, other in zip(slow.tickets, fast.tickets, strict=True):
        assert one.removed == other.removed
        assert all(torch.equal(mask, other.masks[name]) for name, mask in one.masks.items())


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_at_once_as_much_goes_as_in_rounds(scope):
    options = {"rounds": 3, "rate": 0.3, "scope": scope, **({"last": "half"} if scope == "layer" else {})}
    rounds, once = play(**options), play(once=True, **options)
    assert [entry["round"] for entry in once.record["rounds"]] == [0, 3]
    assert once.record["rounds"][1]["density"] == rounds.record["rounds"][3]["density"]
    if scope == "layer":
        assert kept(once.tickets[-1].masks) == kept(rounds.tickets[-1].masks)


def test_new_weights_are_drawn_alike_and_trained_from_the_first_step(monkeypatch):
    begun = {}
    real = Work.train

    def noted(self, name, program, *args, span=(0, None), **more):
        begun[name] = (program, span[0])
        return real(self, name, program, *args, span=span, **more)

    monkeypatch.setattr(Work, "train", noted)
    play(rounds=1, init="kaiming", rewind="3it", controls=("reinit", "random", "shuffle"), batches=1)
    assert {name: step for name, (_, step) in begun.items()} == {
        "start": 0, "round-0": 3, "round-1": 3, "reinit-1": 0, "random-1": 0, "shuffle-1": 3
    }  # fmt: skip
    for name in ("reinit-1", "random-1"):
        drawn = begun[name][0].parameters["0.weight"].detach()
        assert float(drawn.std()) == pytest.approx((2 / 12) ** 0.5, rel=0.1)


def test_controls_that_do_as_well_are_named():
    record = play(rounds=1, rate=0.1, steps="30it", margin=1.0, controls=("reinit",)).record
    ticket, control = record["rounds"][1]["score"], record["controls"][0]["score"]
    assert record["winning"] == [1]
    assert record["margin"] == 1.0
    assert control >= ticket - 1.0
    assert record["controls_as_good"] == [{"round": 1, "control": "reinit"}]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rewind": "8it"}, UsageError, "rewind=8it is not before the end"),
        ({"steps": "0it"}, UsageError, "steps=0it: nothing would be trained"),
        ({"rounds": 60, "scope": "layer"}, PassError, "nothing would be left of .* Take fewer rounds"),
    ],
)
def test_what_would_train_nothing_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        play(**{"steps": "2it", **options} if "rounds" in options else options)


def test_errors_speak_of_lth_and_not_of_the_passes_that_it_uses():
    program, task = resnet()[1], Regression((3, 8, 8), 3, count=3)
    with pytest.raises(PassError, match=r"^lth: "):
        play(program, task, unit="layers", count=50, learning_rate=1e-4)


def test_compact_rounds_find_the_same_tickets():
    whole, compact = (play(compact=compact, rewind="2it") for compact in (False, True))
    assert whole.losses == compact.losses
    assert [item["nonzero"] for item in whole.record["rounds"]] == [
        item["nonzero"] for item in compact.record["rounds"]
    ]
    assert all(torch.equal(value, compact.program.parameters[name]) for name, value in whole.program.parameters.items())
