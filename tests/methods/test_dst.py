"""dst: every rule keeps its promise in a training, options say what they mean, and what does not fit is refused."""

import pytest
import torch
from helpers.sparse import Clusters, program_of, run

import sparsify as sp
from sparsify.errors import OptionError, PassError, UsageError
from sparsify.methods.dst import Dst
from sparsify.registry import entries
from sparsify.training import sparse_training
from sparsify.training.work import Work

RULES = [name for name in entries("sparsify.mask_updates") if name not in ("gmp", "static")]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", RULES)
def test_a_training_keeps_the_number_of_weights_and_the_audit_finds_nothing(name, optimizer):
    trained = run(name, optimizer=optimizer)
    counts = {int(sum(mask.sum() for mask in trained.program.masks.values()))}
    assert len(counts) == 1
    assert trained.exchanges
    assert trained.itop > trained.exchanges[0]["density"]
    densities = {round(item["density"], 12) for item in trained.exchanges}
    assert len(densities) == 1
    for key, mask in trained.program.masks.items():
        assert not trained.program.parameters[key][~mask].any()


@pytest.mark.parametrize("name", [*RULES, "gmp"])
def test_the_seed_decides(name):
    one, again, other = run(name, seed=1), run(name, seed=1), run(name, seed=2)
    for key, mask in one.program.masks.items():
        assert torch.equal(mask, again.program.masks[key])
        assert torch.equal(one.program.parameters[key], again.program.parameters[key])
    assert any(not torch.equal(mask, other.program.masks[key]) for key, mask in one.program.masks.items())


def densities(program):
    return {name: float(mask.float().mean()) for name, mask in program.masks.items()}


@pytest.mark.parametrize("allocation", ["erk", "er", "uniform"])
def test_the_weights_are_allocated(allocation):
    found = densities(run("static", steps="1it", allocation=allocation).program)
    expected = sp.run(program_of(), [f"weight-prune:sparsity=0.8,criterion=random,allocation={allocation}"]).program
    assert found == densities(expected)


def test_layers_may_stay_dense():
    assert densities(run("rigl", last="dense", protect=("2",)).program).keys() == {"0.weight"}
    assert densities(run("rigl", first="dense").program).keys() == {"2.weight", "4.weight"}


def test_masks_that_are_there_are_where_it_starts():
    program = sp.run(program_of(), ["weight-prune:sparsity=0.6,only=0"]).program
    trained = run("static", program=program, sparsity=None)
    assert torch.equal(trained.program.masks["0.weight"], program.masks["0.weight"])
    assert trained.program.history == program.history


def test_weights_are_drawn_anew_if_asked():
    one, other = (run("static", steps="1it", init=init).program for init in ("given", "kaiming"))
    assert not torch.allclose(one.parameters["2.weight"], other.parameters["2.weight"], atol=0.05)


def test_through_the_front_door():
    result = sp.retrain(program_of(), "dst:method=set,sparsity=0.8,steps=3ep,every=4it,audit=yes", Clusters())
    assert result.report["retrain"]["method"].startswith("dst:steps=3ep,")
    assert result.report["after"]["nonzero"] < 0.4 * result.report["after"]["parameters"]


def test_rigl_finds_better_places_than_random_ones():
    scores = {}
    for method in ("static", "rigl"):
        found = [Clusters().score(run(method, sparsity=0.9, steps="300it", seed=seed).program.module()).value
                 for seed in range(3)]  # fmt: skip
        scores[method] = sum(found) / 3
    assert scores["rigl"] > scores["static"] + 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity=1.0 is not between 0 and 1"),
        ({"sparsity": 0.5, "alpha": 0.0}, r"alpha=0.0 is not in \(0, 1\]"),
        ({"sparsity": 0.5, "until": 2.0}, r"until=2.0 is not in \(0, 1\]"),
        ({"sparsity": 0.5, "every": "often"}, "'often' is not a number of steps"),
        ({"method": "sr-ste", "pattern": "block4"}, "trains N:M"),
        ({"method": "sr-ste", "sparsity": 0.5}, "the pattern says the sparsity; leave out sparsity="),
        ({"method": "sr-ste", "allocation": "er"}, "the pattern says the sparsity; leave out allocation="),
        ({"sparsity": 0.5, "pattern": "1:4"}, "method=rigl has no pattern; sr-ste takes it"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "method=rigl has no pattern; sr-ste takes it"),
        ({"sparsity": 0.5, "method": "static", "every": "2it"}, "method=static has no every; deepr, dsr, gmp, rigl"),
        ({"sparsity": 0.5, "method": "static", "alpha": 0.1}, "method=static has no alpha; dsr, rigl, set, snfs"),
        ({"sparsity": 0.5, "method": "gmp", "alpha": 0.1}, "method=gmp has no alpha"),
        ({"sparsity": 0.5, "method": "deepr", "until": 0.1}, "method=deepr has no until"),
        ({"method": "sr-ste", "every": "2it"}, "method=sr-ste has no every"),
        ({"allocation": "er"}, "which allocation= cannot change; give sparsity="),
        ({"protect": ("head",)}, "which protect= cannot change"),
        ({"last": "dense"}, "which last= cannot change"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Dst(**options)


def test_masks_are_needed():
    with pytest.raises(UsageError, match="dst needs sparsity=, or masks"):
        Dst().retrain(program_of(), Clusters(), seed=0, work=Work())


def test_the_record_says_what_was_kept_and_what_was_dense():
    static, gmp, rows = (run(method, sparsity=0.9).record for method in ("static", "gmp", "srigl"))
    assert (static["kept"], static["wanted"], static["exchanges"]) == (static["wanted"], static["wanted"], 0)
    assert static["itop"] == pytest.approx(0.1, abs=1e-3)
    assert (static["dense"], gmp["dense"]) == ("", "dense at first")
    assert rows["kept"] != rows["wanted"]  # whole numbers of inputs
    assert run("sr-ste").record["dense"] == "dense underneath"


def test_updates_are_a_step_apart():
    with pytest.raises(UsageError, match="every=0it is no pace"):
        Dst(sparsity=0.9, every="0it")


def test_very_many_updates_are_counted_and_some_are_told(monkeypatch):
    monkeypatch.setattr(sparse_training, "_TOLD", 50)
    trained = run("deepr", steps="150it", sparsity=0.5)
    assert 15 < len(trained.exchanges) <= 51
    assert trained.updates > len(trained.exchanges)


def warned(method, task=None, **options):
    events = []
    work = Work(listeners=(events.append,))
    trained = Dst(method=method, **options).retrain(program_of(), task or Clusters(), seed=0, work=work)
    return trained, [event["text"] for event in events if event["event"] == "warning"]


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("rigl", "every=100it,alpha=0.3,until=0.75", "every=4it makes 11 updates."),
        ("set", "every=1ep,alpha=0.3,until=1.0", "every=6it makes 9 updates."),
        ("deepr", "every=100it", "every=6it makes 10 updates."),
    ],
)
def test_masks_that_never_change_are_warned_of_once(method, options, text):
    class Long(Clusters):
        def batches(self, split, *, seed=0):
            return super().batches(split, seed=seed) * 9  # 72 batches

    given = {"every": "100it"} if method == "deepr" else {}
    trained, warnings = warned(method, Long(), sparsity=0.8, steps="60it", **given)
    assert trained.updates == 0
    assert warnings == [f"The masks never change: with {options} no update falls into 60 steps. {text}"]
    pace = text.partition(" ")[0].removeprefix("every=")
    again, warnings = warned(method, Long(), sparsity=0.8, steps="60it", every=pace)
    assert again.updates > (0 if method != "deepr" else -1)  # no sign need flip
    assert warnings == []


def test_masks_that_should_not_change_are_not_warned_of():
    assert warned("static", sparsity=0.8, steps="4it")[1] == []
    assert warned("sr-ste", steps="4it")[1] == []
    assert warned("rigl", sparsity=0.8, steps="1it")[1][0].endswith("into 1 step. Give more steps=.")


def test_layers_that_become_empty_are_named_once(monkeypatch):
    def nothing(self, stats):  # which moves all weights of the last layer to the first
        found = {name: mask.clone() for name, mask in stats.masks.items()}
        free = (~found["0.weight"]).nonzero()[: int(found["4.weight"].sum())]
        found["0.weight"][free[:, 0], free[:, 1]] = True
        found["4.weight"][:] = False
        return found

    monkeypatch.setattr("sparsify.mask_updates.set.Set.masks", nothing)
    _, warnings = warned("set", sparsity=0.8, steps="9it", every="3it")
    (text,) = warnings
    assert text.startswith("The updates of the masks have taken all weights of 4.weight by step 3: nothing passes")


def test_the_record_has_the_values_that_were_used():
    assert run("rigl").record["rule"] == {"method": "rigl", "every": "4it", "alpha": "0.3", "until": "0.75"}
    assert run("snfs", alpha=0.25).record["rule"] == {"method": "snfs", "every": "4it", "alpha": 0.25, "until": "1.0"}
    assert run("static").record["rule"] == {"method": "static"}


def test_errors_speak_of_dst_and_not_of_the_pass_that_draws_masks():
    with pytest.raises(PassError, match=r"^dst: protect=nothere matches no parameter") as told:
        sp.retrain(program_of(), "dst:sparsity=0.5,protect=nothere", Clusters())
    assert "criterion=random" not in str(told.value)
    with pytest.raises(PassError, match=r"^dst: .*weight would lose all weights"):
        sp.retrain(program_of(), "dst:sparsity=0.999,allocation=uniform", Clusters())


def test_compact_is_for_masks_that_stay():
    with pytest.raises(OptionError, match=r"method=rigl changes masks .* compact=yes .*method=static"):
        Dst(method="rigl", sparsity=0.9, compact=True)
    whole, compact = (run("static", steps="8it", compact=compact) for compact in (False, True))
    assert whole.losses == compact.losses
    assert all(torch.equal(value, compact.program.parameters[name]) for name, value in whole.program.parameters.items())
