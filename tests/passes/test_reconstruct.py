"""reconstruct: what is left of masked layers gives more of what the whole layers gave, and nothing else changes."""

import functools

import pytest
import torch
from helpers.models import Net
from helpers.trained import trained_digits
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify import verify
from sparsify.errors import PassError, UsageError
from sparsify.layers import layers
from sparsify.masking import baked, masked
from sparsify.tasks.digits import Digits

GOLDEN = """
%where_scalar_other: float32[3, 4] = where.ScalarOther(2.weight_mask, 2.weight, 0.0)
%input_1: float32[batch, 5] = input
%linear: float32[batch, 4] = linear(%input_1, 0.weight, 0.bias)
%relu: float32[batch, 4] = relu(%linear)
%linear_1: float32[batch, 3] = linear(%relu, %where_scalar_other, 2.bias)
return [%linear_1]
"""
TASK = Digits()


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained_digits(tmp_path_factory)


@pytest.fixture(scope="module")
def pruned(digits):
    specs = {"unstructured": "weight-prune:sparsity=0.9", "2:4": "weight-prune:pattern=2:4",
             "channels": "channel-prune:sparsity=0.6,protect=layer2*,layer3*"}  # fmt: skip
    return {kind: sp.run(digits, [spec]).program for kind, spec in specs.items()}


@functools.cache
def text(name):
    model, args, kwargs = FAMILIES[name]()
    return sp.capture(model, args, kwargs)


def mlp():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    return sp.capture(model, (torch.randn(200, 5),))


def done(program, *specs, task=None, **more):
    result = sp.run(program, specs, task=task, **more)
    return result.program, result.report["passes"]


def accuracy(program):
    return TASK.score(program.module()).value


def unlike(one, other):
    """Return the names of parameters whose bits differ."""
    return {name for name, value in one.parameters.items() if not torch.equal(value, other.parameters[name])}


def of_masked_layers(program):
    """Return the names of masked weights and of the biases beside them."""
    mine = [layer for layer in layers(program) if layer.parameter in program.masks]
    return {name for layer in mine for name in (layer.parameter, layer.bias) if name}


def test_the_graph_stays_and_only_values_of_the_masked_layer_change():
    before = sp.run(mlp(), ["weight-prune:sparsity=0.5,only=2"]).program
    text, values = str(before), {name: value.clone() for name, value in before.parameters.items()}
    program, (record,) = done(before, "reconstruct")
    assert str(program) == str(before) == text == GOLDEN.strip()
    assert program.history[-1] == "reconstruct"
    assert all(torch.equal(value, values[name]) for name, value in before.parameters.items())
    assert unlike(before, program) == {"2.weight", "2.bias"}
    assert not program.parameters["2.weight"][~program.masks["2.weight"]].any()
    assert record["fitted"] == 1
    assert record["left"] == []
    assert record["output_error"]["after"] < record["output_error"]["before"]


def test_a_last_layer_becomes_the_regression_on_what_is_left():
    whole = mlp()
    before = sp.run(whole, ["weight-prune:sparsity=0.5,only=2"]).program
    program, _ = done(before, "reconstruct:damping=1e-7")
    (x,) = whole.example.args
    with torch.no_grad():
        hidden = torch.relu(x @ whole.parameters["0.weight"].T + whole.parameters["0.bias"])
        (target,) = verify.outputs(whole)
    for row, mask in enumerate(before.masks["2.weight"]):
        system = torch.cat([hidden[:, mask], torch.ones(200, 1)], 1).double()
        expected = torch.linalg.lstsq(system, target[:, row].double()).solution.float()
        found = torch.cat([program.parameters["2.weight"][row, mask], program.parameters["2.bias"][row, None]])
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)  # conjugate gradients stop at 1e-5


def test_the_error_that_is_reported_is_that_of_the_outputs():
    whole = mlp()
    before = sp.run(whole, ["weight-prune:sparsity=0.5"]).program
    program, (record,) = done(before, "reconstruct")
    (expected,), (found,), (naive,) = (verify.outputs(item) for item in (whole, program, before))
    assert record["output_error"]["before"] == pytest.approx(float((naive - expected).norm() / expected.norm()), 1e-4)
    assert record["output_error"]["after"] == pytest.approx(float((found - expected).norm() / expected.norm()), 1e-4)


@pytest.mark.parametrize(
    ("kind", "options", "share"),
    [
        ("unstructured", "method=least-squares", 0.4),
        ("2:4", "method=obs", 0.8),
        ("channels", "method=thinet", 0.6),
        ("channels", "method=lasso", 0.6),
    ],
)
def test_a_trained_network_gives_more_of_what_it_gave(digits, pruned, kind, options, share):
    before = pruned[kind]
    program, records = done(before, f"reconstruct:{options},batches=2", *["shrink"] * (kind == "channels"), task=TASK)
    error = records[0]["output_error"]
    assert error["after"] < share * error["before"]
    assert records[0]["fitted"] == len(before.masks.keys() & {layer.parameter for layer in layers(before)})
    assert accuracy(program) > accuracy(before) + (0 if kind == "channels" else 0.1)
    assert accuracy(program) > accuracy(digits) - 0.07
    if kind == "channels":
        assert not program.masks
        assert records[1]["largest_difference"] <= 1e-5
        assert ("channels_exchanged" in records[0]) == ("thinet" in options or "lasso" in options)
    else:
        assert unlike(before, program) <= of_masked_layers(before)
        assert all(torch.equal(mask, before.masks[name]) for name, mask in program.masks.items())
        assert all(torch.equal(value, before.buffers[name]) for name, value in program.buffers.items())


WEIGHTS, PATTERN, CHANNELS = "weight-prune:sparsity=0.6", "weight-prune:pattern=2:4", "channel-prune:sparsity=0.4"


@pytest.mark.parametrize(
    ("name", "prune", "method", "share"),
    [
        ("bert", WEIGHTS, "least-squares", 0.1),
        ("bert", WEIGHTS, "obs", 0.5),
        ("bert", CHANNELS, "lasso", 0.1),
        ("bert", CHANNELS, "bias", 0.5),
        ("gpt2", PATTERN, "least-squares", 0.1),
        ("gpt2", PATTERN, "bias", 0.8),
        ("gpt2", CHANNELS, "obs", 0.5),
        ("gpt2", CHANNELS, "thinet", 0.1),
    ],
)
def test_a_transformer_gives_more_of_what_it_gave(name, prune, method, share):
    before = sp.run(text(name), [prune], verify=False).program
    more = ["shrink"] if prune == CHANNELS else []
    program, (record, *_) = done(before, f"reconstruct:method={method}", *more)
    assert record["output_error"]["after"] < share * record["output_error"]["before"]
    if prune == CHANNELS:
        assert not program.masks
    else:
        assert unlike(before, program) == of_masked_layers(before)


@pytest.mark.parametrize("method", ["thinet", "lasso"])
def test_masks_of_single_weights_are_not_chosen_again(method):
    before = sp.run(mlp(), ["weight-prune:sparsity=0.5"]).program
    with pytest.raises(PassError, match="is not made of whole channels"):
        done(before, f"reconstruct:method={method}")


@pytest.mark.parametrize("method", ["least-squares", "obs"])
def test_biases_stay_if_they_should(method):
    before = sp.run(mlp(), ["weight-prune:sparsity=0.5"]).program
    program, (record,) = done(before, f"reconstruct:method={method},bias=no")
    assert unlike(before, program) == {"0.weight", "2.weight"}
    with_biases, (other,) = done(before, f"reconstruct:method={method}")
    assert unlike(before, with_biases) == {"0.weight", "2.weight", "0.bias", "2.bias"}
    assert other["output_error"]["after"] < record["output_error"]["after"]


@pytest.mark.parametrize("method", ["least-squares", "obs"])
def test_what_a_channel_gave_moves_to_its_copy(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        model[0].weight[3], model[0].bias[3] = model[0].weight[0], model[0].bias[0]
    whole = sp.capture(model, (torch.randn(200, 5),))
    gone = torch.tensor([False, True, True, True])
    masks = {"0.weight": gone[:, None].expand(4, 5), "0.bias": gone, "2.weight": gone.expand(3, 4)}
    program, (record,) = done(masked(whole, masks), f"reconstruct:method={method},damping=1e-5")
    both = whole.parameters["2.weight"][:, 0] + whole.parameters["2.weight"][:, 3]
    torch.testing.assert_close(program.parameters["2.weight"][:, 3], both, rtol=1e-2, atol=1e-3)  # damped
    assert record["output_error"]["after"] < 0.01 * record["output_error"]["before"]


def test_a_bias_takes_the_mean_and_weights_stay():
    before = sp.run(mlp(), ["weight-prune:sparsity=0.5,only=2"]).program
    program, _ = done(before, "reconstruct:method=bias")
    assert torch.equal(baked(program).parameters["2.weight"], baked(before).parameters["2.weight"])
    (expected,), (found,) = verify.outputs(mlp()), verify.outputs(program)
    torch.testing.assert_close(found.mean(0), expected.mean(0), rtol=1e-4, atol=1e-5)  # float32 means


def test_more_damping_stays_nearer_to_the_weights():
    before = sp.run(mlp(), ["weight-prune:sparsity=0.5"]).program
    far = []
    for damping in ("1e-4", "0.1", "10", "1e5"):
        program, _ = done(before, f"reconstruct:damping={damping}")
        pairs = [(baked(item).parameters["2.weight"]) for item in (program, before)]
        far.append(float((pairs[0] - pairs[1]).detach().norm()))
    assert far == sorted(far, reverse=True)
    assert far[-1] < 1e-3


def test_what_is_protected_stays():
    before = sp.run(mlp(), ["weight-prune:sparsity=0.5"]).program
    program, (record,) = done(before, "reconstruct:protect=0")
    assert unlike(before, program) == {"2.weight", "2.bias"}
    assert record["left"] == ["0.weight"]
    with pytest.raises(PassError, match="No masked layer can be refitted so"):
        done(before, "reconstruct:protect=*")


@pytest.mark.parametrize("options", ["", "method=obs", "method=thinet"])
def test_twice_is_the_same(options):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)
    )
    before = sp.run(sp.capture(model, (torch.randn(2, 1, 8, 8),)), ["channel-prune:sparsity=0.5"]).program
    spec = f"reconstruct:{options}".rstrip(":")
    one, two, other = (done(before, spec, task=TASK, seed=seed)[0] for seed in (0, 0, 1))
    assert not unlike(one, two)
    assert all(torch.equal(mask, two.masks[name]) for name, mask in one.masks.items())
    assert unlike(one, other)


def test_the_bias_of_a_transposed_convolution_stays():
    """Its weight has a row for every position of the kernel, and one bias for all of them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, 2)).eval()
    before = sp.run(sp.capture(model, (torch.randn(2, 3, 8, 8),)), ["weight-prune:sparsity=0.5"]).program
    program, (record,) = done(before, "reconstruct")
    assert unlike(before, program) == {"0.weight", "0.bias", "2.weight"}
    assert record["output_error"]["after"] < record["output_error"]["before"]


@pytest.mark.parametrize("method", ["least-squares", "obs"])
def test_a_weight_of_two_layers_is_fitted_for_both_and_their_biases_stay(method):
    torch.manual_seed(0)
    one, other = nn.Linear(6, 6), nn.Linear(6, 6)
    other.weight = one.weight
    model = Net(lambda s, x: torch.cat([s.a(x.relu()), s.b(s.a(x).relu() + 3)], 1), a=one, b=other).eval()
    before = sp.run(sp.capture(model, (torch.randn(64, 6),)), ["weight-prune:sparsity=0.3"]).program
    program, (record,) = done(before, f"reconstruct:method={method}")
    assert unlike(before, program) == {"a.weight"}
    assert record["output_error"]["after"] < record["output_error"]["before"]
    with pytest.raises(PassError, match="No masked layer can be refitted so"):
        done(before, "reconstruct:method=bias")


def test_grouped_convolutions_and_experts():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2)).eval()
    mixtral, args, kwargs = FAMILIES["mixtral"]()
    whole = sp.capture(model, (torch.randn(4, 3, 8, 8),))
    for program, method, share in (
        (whole, "least-squares", 0.8),
        (whole, "obs", 0.95),
        (sp.capture(mixtral, args, kwargs), "least-squares", 0.2),
    ):
        before = sp.run(program, ["weight-prune:sparsity=0.5"], verify=False).program
        _, (record,) = done(before, f"reconstruct:method={method}", verify=False)
        assert record["output_error"]["after"] < share * record["output_error"]["before"]


def test_recurrent_layers_stay():
    torch.manual_seed(0)
    model = Net(lambda s, x: s.h(s.l(x)[0]), l=nn.LSTM(4, 6, batch_first=True), h=nn.Linear(6, 3)).eval()
    whole = sp.capture(model, (torch.randn(3, 5, 4),))
    before = sp.run(whole, ["weight-prune:sparsity=0.5"]).program
    program, (record,) = done(before, "reconstruct")
    assert unlike(before, program) == {"h.weight", "h.bias"}
    assert sorted(record["left"]) == ["l.weight_hh_l0", "l.weight_ih_l0"]
    only = sp.run(whole, ["weight-prune:sparsity=0.5,protect=h"]).program
    with pytest.raises(PassError, match="recurrent layers, weights that layers read in two directions, protected ones"):
        done(only, "reconstruct")


def test_without_masks_there_is_nothing_to_do():
    with pytest.raises(PassError, match=r"Nothing is masked\. Prune first, and shrink afterwards"):
        done(mlp(), "reconstruct")


def test_random_inputs_are_no_data():
    program = mlp()
    program = program.with_example(program.example.args, {}, synthetic=True)
    pruned = sp.run(program, ["weight-prune:sparsity=0.5"]).program
    with pytest.raises(PassError, match="pass reconstruct needs data, and the example inputs are random"):
        done(pruned, "reconstruct")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("damping=0", r"damping=0\.0 is not positive"),
        ("damping=nan", "damping=nan is not positive"),
        ("batches=0", "batches=0 is less than 1"),
        ("method=magic", "magic"),
        ("method=bias,bias=no", "fits nothing but biases"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        done(mlp(), f"reconstruct:{options}")
