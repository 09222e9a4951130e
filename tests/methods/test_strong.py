"""strong: scores are trained and weights are not; what comes out is a plain network that computes what was trained."""

import pytest
import torch
from helpers.sparse import Clusters, program_of
from torch import nn

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.masking import masked
from sparsify.methods.strong import Strong
from sparsify.registry import entries
from sparsify.tickets.initialization import initial
from sparsify.training.work import Work

WAYS = list(entries("sparsify.strong"))
WEIGHTS = ("0.weight", "2.weight", "4.weight")


def run(method, *, program=None, seed=0, work=None, steps="40it", **options):
    every = {"every": "7it"} if method == "iterand" else {}
    made = Strong(method=method, steps=steps, **{"learning_rate": 0.02, **every, **options})
    return made.retrain(program or program_of(seed), Clusters(), seed=seed, work=work or Work())


def score(program):
    return Clusters().score(program.module()).value


def same(one, other):
    return all(torch.equal(value, other.parameters[name]) for name, value in one.parameters.items()) and all(
        torch.equal(mask, other.masks[name]) for name, mask in one.masks.items()
    )


@pytest.mark.parametrize("method", ["edge-popup", "supermask"])
@pytest.mark.parametrize("init", ["given", "torch", "kaiming", "xavier", "sign", "shuffle"])
def test_weights_are_those_of_the_start_bit_for_bit(method, init):
    given = program_of()
    found = run(method, init=init, rescale=False).program
    start = given if init == "given" else initial(given, 0, init)
    assert found.parameters.keys() == start.parameters.keys()
    assert found.masks.keys() == set(WEIGHTS)
    for name, value in start.parameters.items():
        assert torch.equal(found.parameters[name], value)


def test_piggyback_keeps_the_weights_that_it_is_given_whatever_is_rescaled_elsewhere():
    found = run("piggyback").program
    assert all(torch.equal(value, found.parameters[name]) for name, value in program_of().parameters.items())
    assert sum(int((~mask).sum()) for mask in found.masks.values()) > 0


def test_piggyback_does_not_destroy_the_trained_network_in_its_first_step():
    program = sp.retrain(program_of(), "fine-tune:steps=80it", Clusters()).program
    before, after = score(program), score(run("piggyback", program=program, steps="1it", learning_rate=None).program)
    assert before == after > 0.6


def test_every_method_has_a_learning_rate_of_its_own_and_a_given_one_wins():
    rates = {method: run(method, steps="1it", learning_rate=None).record["strong"]["options"]["learning_rate"]
             for method in ("edge-popup", "supermask", "piggyback", "slot-machines")}  # fmt: skip
    assert rates == {"edge-popup": 0.01, "supermask": 0.05, "piggyback": 1e-4, "slot-machines": 1e-3}
    seen = []
    work = Work(on_step=lambda event: seen.append(event.learning_rate))
    for given in (0.02, None):
        run("piggyback", work=work, schedule="constant", steps="1it", learning_rate=given)
    assert seen == [0.02, 1e-4]
    with pytest.raises(UsageError, match="learning_rate=-1"):
        Strong(method="piggyback", learning_rate=-1)


@pytest.mark.parametrize("method", ["edge-popup", "biprop", "iterand", "supermask"])
def test_counts_are_exact(method):
    found = run(method, sparsity=0.7)
    assert {name: int(mask.sum()) for name, mask in found.program.masks.items()} == {
        "0.weight": round(0.3 * 12 * 32), "2.weight": round(0.3 * 32 * 16), "4.weight": round(0.3 * 16 * 4),
    }  # fmt: skip


@pytest.mark.parametrize("method", WAYS)
def test_the_plain_network_computes_what_was_trained(method):
    """The score that was measured on the way, with the scores in the graph, is that of the result."""
    found = run(method, score_every="40it", learning_rate=0.2 if method == "supermask" else 0.02)
    assert found.curve[-1]["score"] == score(found.program)
    assert found.curve[-1]["score"] > 0.6  # of four classes
    assert all(value.requires_grad for value in found.program.parameters.values())
    plain = sp.capture(nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)),
                       (torch.randn(4, 12),))  # fmt: skip
    masks = {name: found.program.masks[name] for name in WEIGHTS if found.program.masks}
    assert str(found.program) == str(masked(plain, masks))


@pytest.mark.parametrize("method", WAYS)
def test_the_seed_decides(method):
    one, again, other = run(method, seed=1), run(method, seed=1), run(method, program=program_of(1), seed=2)
    assert one.losses == again.losses
    assert same(one.program, again.program)
    assert not same(one.program, other.program)


class StopError(Exception):
    pass


@pytest.mark.parametrize("method", ["supermask", "iterand", "slot-machines"])
def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bits(method, tmp_path):
    expected = run(method)

    def stop(event):
        if event.step == 25:
            raise StopError

    with pytest.raises(StopError):
        run(method, work=Work(tmp_path, seconds=0, on_step=stop))
    steps = []
    found = run(method, work=Work(tmp_path, on_step=lambda event: steps.append(event.step)))
    assert steps[0] == 25  # the checkpoint is that of the step before
    assert found.losses == expected.losses
    assert same(found.program, expected.program)
    kept = run(method, work=Work(tmp_path, on_step=lambda event: pytest.fail("it is done already")))
    assert same(kept.program, expected.program)


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_seeds_have_32_bits_as_elsewhere(seed):
    with pytest.raises(UsageError, match="does not fit into 32 bits"):
        run("edge-popup", seed=seed, program=program_of())


def test_iterand_draws_anew_only_what_is_left_out_and_edge_popup_does_not():
    start = initial(program_of(), 0, "sign").parameters["0.weight"] / 0.5**0.5
    moved = {method: run(method).program.parameters["0.weight"] != start for method in ("iterand", "edge-popup")}
    assert not moved["edge-popup"].any()
    assert 0.01 < float(moved["iterand"].float().mean()) < 0.25  # of five draws of a tenth of a half, half new signs
    found = run("iterand").program.parameters["0.weight"]
    assert torch.equal(found.abs(), start.abs())


def test_only_scores_are_trained_unless_something_is_named():
    program = program_of(norm=True)
    found = run("edge-popup", init="given", program=program)
    assert all(torch.equal(value, program.parameters[name]) for name, value in found.program.parameters.items())
    assert not torch.equal(found.program.buffers["1.running_mean"], program.buffers["1.running_mean"])
    assert found.record["strong"]["trained_besides"] == 0
    found = run("edge-popup", init="given", program=program, train=("5", "*.bias"))
    after = found.program.parameters
    changed = {name for name, value in program.parameters.items() if not torch.equal(value, after[name])}
    assert changed == {"5.weight", "5.bias", "3.bias", "1.bias", "0.bias"}
    assert found.program.masks.keys() == {"0.weight", "3.weight"}
    assert found.record["strong"]["trained_besides"] == 64 + 4 + 16 + 32 + 32


def test_what_is_protected_stays_as_it_was():
    program = program_of()
    found = run("edge-popup", protect=("4",)).program
    assert found.masks.keys() == {"0.weight", "2.weight"}
    for name in ("4.weight", "4.bias"):
        assert torch.equal(found.parameters[name], program.parameters[name])
    assert not torch.equal(found.parameters["2.weight"], program.parameters["2.weight"])


def test_what_was_not_trained_in_the_model_is_not_trained_after():
    program = program_of()
    program.parameters["2.weight"].requires_grad_(False)
    found = run("edge-popup", program=program, steps="1it").program
    assert [found.parameters[name].requires_grad for name in WEIGHTS] == [True, False, True]


def test_the_record_says_what_was_trained_and_what_is_kept():
    found = run("edge-popup", sparsity=0.75)
    record = found.record["strong"]
    assert (record["method"], record["scores"], record["weights"], record["kept"]) == ("edge-popup", 960, 960, 240)
    assert record["options"] == {"init": "sign", "learning_rate": 0.02, "sparsity": 0.75, "rescale": True}
    assert record["density"] == 0.25
    assert record["layers"]["4.weight"] == {"weights": 64, "kept": 16, "sparsity": 0.75}
    slots = run("slot-machines", values=3, steps="1it").record["strong"]
    assert (slots["scores"], slots["weights"], slots["kept"]) == (2880, 960, 960)


def test_through_the_front_door_and_on(tmp_path):
    result = sp.retrain(program_of(), "strong:method=edge-popup,sparsity=0.9,steps=60it,learning_rate=0.5", Clusters())
    assert result.report["retrain"]["strong"]["kept"] == result.report["after"]["nonzero"]
    sp.save(result.program, tmp_path / "small.pt2")
    sp.export_onnx(result.program, tmp_path / "small.onnx")
    again = sp.load(tmp_path / "small.pt2")
    assert same(again, result.program)
    assert sp.run(again, ["shrink"]).report["after"]["parameters"] < 1000


def test_layers_that_are_left_out_as_a_whole_are_warned_of():
    events = []
    run("piggyback", threshold=5.0, steps="1it", work=Work(listeners=(events.append,)))
    (text,) = [event["text"] for event in events if event["event"] == "warning"]
    assert text.startswith("The scores leave out all weights of 0.weight, 2.weight, 4.weight: nothing passes there")


def test_a_run_too_short_for_a_draw_is_warned_of():
    events = []
    run("iterand", every="40it", work=Work(listeners=(events.append,)))
    assert [event["text"] for event in events if event["event"] == "warning"] == [
        "No weight is drawn anew: every=40it is not shorter than 40 steps."
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity=1.0 is not between 0 and 1"),
        ({"method": "iterand", "share": 0.0}, r"share=0.0 is not in \(0, 1\]"),
        ({"method": "signed", "threshold": 0.0}, "threshold=0.0 is not positive"),
        ({"method": "slot-machines", "values": 1}, "values=1 leaves no choice"),
        ({"method": "iterand", "every": "0it"}, "every=0it is no pace"),
        ({"method": "iterand", "every": "often"}, "'often' is not a number of steps"),
        ({"every": "5it"}, "method=edge-popup has no every; iterand takes it"),
        ({"method": "signed", "sparsity": 0.5}, "method=signed has no sparsity; biprop, edge-popup, iterand, "),
        ({"values": 4}, "method=edge-popup has no values; slot-machines takes it"),
        ({"method": "slot-machines", "init": "given"}, "method=slot-machines draws weights more than once"),
        ({"method": "iterand", "init": "given"}, "method=iterand draws weights more than once"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=f"^(strong: )?{message}"):
        Strong(**options)


def test_what_is_masked_already_is_refused_unless_it_is_protected():
    program = sp.run(program_of(), ["weight-prune:sparsity=0.5,only=2"]).program
    with pytest.raises(UsageError, match=r"strong: 2\.weight is masked, frozen or made of others already"):
        run("edge-popup", program=program)
    found = run("edge-popup", program=program, protect=("2",)).program
    assert torch.equal(found.masks["2.weight"], program.masks["2.weight"])
    assert found.masks.keys() == set(WEIGHTS)


@pytest.mark.parametrize("option", ["train", "protect"])
def test_patterns_match_something(option):
    with pytest.raises(PassError, match=f"^strong: {option}=nothere matches no parameter"):
        run("edge-popup", **{option: ("nothere",)})


def test_compact_is_refused_at_once():
    with pytest.raises(UsageError, match="leave out --compact"):
        Strong(compact=True)
