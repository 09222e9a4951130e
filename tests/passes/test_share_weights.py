"""share-weights: each layer has few different weights, the means of clusters, and the report says what that saves."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.trained import trained_digits
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.masking import masked
from sparsify.tasks.digits import Digits

TASK = Digits()


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5)).eval()


def program_of(model, *shape):
    return sp.capture(model, (torch.randn(2, *shape),))


def done(program, options="", *more, **settings):
    result = sp.run(program, [f"share-weights:{options}".rstrip(":"), *more], **settings)
    return result.program, result.report["passes"][0]


def different(value):
    return len(value.unique())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained_digits(tmp_path_factory)


def test_the_graph_stays_and_only_weights_change():
    before = program_of(net(), 40)
    values = {name: value.clone() for name, value in before.parameters.items()}
    program, record = done(before, "bits=3")
    assert str(program) == str(before)
    assert program.history == ("share-weights:bits=3",)
    assert all(torch.equal(value, values[name]) for name, value in before.parameters.items())
    for name in ("0.weight", "2.weight"):
        assert different(program.parameters[name]) == record["layers"][name]["centres"] == 8
        assert program.parameters[name].dtype == torch.float32
    for name in ("0.bias", "2.bias"):
        assert program.parameters[name] is before.parameters[name]


def test_every_weight_becomes_the_mean_of_its_cluster():
    before = program_of(net(), 40)
    program, record = done(before, "bits=2")
    old, new = before.parameters["0.weight"].detach(), program.parameters["0.weight"].detach()
    for value in new.unique():
        assert float(old[new == value].double().mean()) == pytest.approx(float(value), rel=1e-6)
    nearest = new.unique()[(old[..., None] - new.unique()).abs().argmin(-1)]
    assert torch.equal(nearest, new)
    error = float((new - old).double().norm() / old.double().norm())
    assert record["layers"]["0.weight"]["relative_rms_error"] == pytest.approx(error, rel=1e-5)


def test_by_hand():
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0, 0.2, 5.0], [0.2, 0.0, 5.2, 0.2]]))
    program, record = done(program_of(model, 4), "bits=1")
    torch.testing.assert_close(
        program.parameters["weight"].detach(), torch.tensor([[0.1, 0.1, 0.1, 5.1], [0.1, 0.1, 5.1, 0.1]])
    )
    layer = record["layers"]["weight"]
    assert layer["huffman_bits"] == 1
    assert layer["entropy_bits"] == pytest.approx(0.25 * 2 + 0.75 * math.log2(4 / 3))
    assert layer["relative_rms_error"] == pytest.approx(math.sqrt(8 * 0.01 / (3 * 0.04 + 25 + 27.04)), rel=1e-5)
    assert layer["estimated_bytes"] == 1 + 2 * (4 + 1)  # 8 bits, two values, two lengths
    assert record["dense_file_bytes"] == 8 * 4
    assert record["estimated_file_bytes"] == 11


def test_masked_weights_stay_masked_and_are_in_no_cluster():
    before = sp.run(program_of(net(), 40), ["weight-prune:sparsity=0.6"]).program
    program, record = done(before, "bits=4")
    assert all(torch.equal(mask, before.masks[name]) for name, mask in program.masks.items())
    for name, mask in program.masks.items():
        kept = program.parameters[name][mask]
        assert different(kept) == record["layers"][name]["centres"] <= 16
        assert kept.abs().min() > 0
        assert float(kept.abs().min()) >= 0.9 * float(before.parameters[name][mask].abs().min())
        assert torch.equal(program.parameters[name][~mask], before.parameters[name][~mask])


def test_the_places_of_kept_weights_are_counted():
    """Every tenth weight is kept: all ways but the first are the same, so that they take a bit each."""
    before = program_of(nn.Linear(400, 5, bias=False), 400)
    mask = (torch.arange(2000) % 10 == 4).view(5, 400)
    _, record = done(masked(before, {"weight": mask}), "bits=2")
    layer = record["layers"]["weight"]
    values = math.ceil(200 * layer["huffman_bits"] / 8) + 4 * (4 + 1)
    assert layer["estimated_bytes"] == values + 257 + 200 // 8
    assert record["dense_file_bytes"] == 8000


def test_long_ways_are_written_in_parts():
    before = program_of(nn.Linear(20_001, 1, bias=False), 20_001)
    mask = (torch.arange(20_001) % 1000 == 0)[None]
    _, record = done(masked(before, {"weight": mask}), "bits=1")
    # a way of 0, and 20 of 999 = 3 x 256 + 231: 60 symbols of 1 bit, 20 and 1 of 2 bits; and 21 weights of 1 bit
    assert record["layers"]["weight"]["estimated_bytes"] == 3 + 2 * 5 + 257 + math.ceil((60 + 2 * 21) / 8)


def test_a_layer_without_weights_is_left_alone():
    before = masked(program_of(net(), 40), {"2.weight": torch.zeros(5, 30, dtype=torch.bool)})
    program, record = done(before)
    assert record["layers"]["2.weight"] == {"centres": 0, "estimated_bytes": 0}
    assert torch.equal(program.parameters["2.weight"], before.parameters["2.weight"])


def test_equal_weights_are_one_centre_without_any_error():
    model = net()
    nn.init.constant_(model[2].weight, 0.3)
    nn.init.zeros_(model[0].weight)
    _, record = done(program_of(model, 40))
    for name in ("0.weight", "2.weight"):
        found = record["layers"][name]
        assert (found["centres"], found["relative_rms_error"], found["huffman_bits"]) == (1, 0, 0)


def test_a_second_time_changes_nothing():
    once, _ = done(program_of(net(), 40), "bits=4")
    twice, record = done(once, "bits=4")
    assert all(torch.equal(value, once.parameters[name]) for name, value in twice.parameters.items())
    assert record["layers"]["0.weight"]["relative_rms_error"] == 0


def test_more_bits_are_nearer_and_larger():
    before = program_of(net(), 40)
    found = [done(before, f"bits={bits}")[1]["layers"]["0.weight"] for bits in (1, 2, 4, 6)]
    errors, lengths = ([layer[key] for layer in found] for key in ("relative_rms_error", "huffman_bits"))
    assert errors == sorted(errors, reverse=True)
    assert lengths == sorted(lengths)
    assert all(layer["entropy_bits"] <= layer["huffman_bits"] < layer["entropy_bits"] + 1 for layer in found)


def test_five_bits_hardly_change_what_a_network_says(digits):
    program, record = done(digits, "bits=5", task=TASK)
    right, now = (TASK.score(item.module()).value for item in (digits, program))
    assert now > right - 0.01
    assert all(layer["centres"] <= 32 for layer in record["layers"].values())
    assert record["dense_file_bytes"] / record["estimated_file_bytes"] > 6  # 5.3 bits instead of 32
    assert len(record["layers"]) == 22


def test_pruned_first_it_takes_less(digits):
    result = sp.run(digits, ["weight-prune:sparsity=0.8", "share-weights"])
    _, record = done(digits)
    pruned = result.report["passes"][1]
    assert pruned["dense_file_bytes"] == record["dense_file_bytes"]
    assert pruned["estimated_file_bytes"] < 0.6 * record["estimated_file_bytes"]


def test_protected_and_chosen_layers():
    before = program_of(net(), 40)
    for options, changed in (("protect=0", {"2.weight"}), ("only=0", {"0.weight"}), ("include=2.bias",
                             {"0.weight", "2.weight", "2.bias"})):  # fmt: skip
        program, record = done(before, f"bits=1,{options}")
        assert {n for n, v in program.parameters.items() if not torch.equal(v, before.parameters[n])} == changed
        assert set(record["layers"]) == changed
    with pytest.raises(PassError, match="protect=nothing matches no parameter"):
        done(before, "protect=nothing")


def test_a_tied_embedding_stays_unless_it_is_included():
    model, args, kwargs = FAMILIES["gpt2"]()
    before = sp.capture(model, args, kwargs)
    program, record = done(before, "bits=3")
    name = "transformer.wte.weight"
    assert record["skipped"][name] == "it is an embedding"
    assert torch.equal(program.parameters[name], before.parameters[name])
    program, _ = done(before, f"bits=3,include={name}")
    assert different(program.parameters[name]) == 8


def test_half_precision():
    before = sp.capture(net().bfloat16(), (torch.randn(2, 40).bfloat16(),))
    program, _ = done(before, "bits=3")
    assert program.parameters["0.weight"].dtype == torch.bfloat16
    assert different(program.parameters["0.weight"]) <= 8


def test_shrinking_and_exporting_afterwards(tmp_path):
    before = sp.run(program_of(net(), 40), ["channel-prune:sparsity=0.5"]).program
    program, _ = done(before, "bits=3", "shrink")
    assert program.parameters["0.weight"].shape == (15, 40)
    assert different(program.parameters["0.weight"]) <= 8
    sp.save(program, tmp_path / "shared.pt2")
    assert different(sp.load(tmp_path / "shared.pt2").parameters["0.weight"]) <= 8


def test_weights_that_are_not_finite_are_refused():
    before = program_of(net(), 40)
    broken = nn.Parameter(torch.full((5, 30), math.nan))
    before = replace(before, parameters={**before.parameters, "2.weight": broken})
    with pytest.raises(PassError, match=r"2\.weight is not finite"):
        done(before)


@pytest.mark.parametrize("bits", [0, 17, -1])
def test_numbers_of_bits_that_make_no_sense_are_refused(bits):
    with pytest.raises(UsageError, match=rf"bits={bits} is not between 1 and 16"):
        done(program_of(net(), 40), f"bits={bits}")
