"""sanity: every control keeps as much as the pruned model, is another network, and can be used like any other."""

import functools
import re

import onnxruntime
import pytest
import torch
from helpers.marks import some
from helpers.regression import Regression
from helpers.residual import resnet
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.export.onnx import export_onnx
from sparsify.pruning.channel_masks import kept_channels

GOLDEN = """
%where: float32[2, 4] = where.ScalarOther(2.weight_mask, 2.weight, 0.0)
%where: float32[4, 3] = where.ScalarOther(0.weight_mask, 0.weight, 0.0)
%input_1: float32[batch, 3] = input
%linear: float32[batch, 4] = linear(%input_1, %where, 0.bias)
%relu: float32[batch, 4] = relu(%linear)
%linear_1: float32[batch, 2] = linear(%relu, %where, 2.bias)
return [%linear_1]
"""
SMALLER = """
%input_1: float32[batch, 3] = input
%linear: float32[batch, 2] = linear(%input_1, 0.weight, 0.bias)
%relu: float32[batch, 2] = relu(%linear)
%linear_1: float32[batch, 2] = linear(%relu, 2.weight, 2.bias)
return [%linear_1]
"""
MASKED = ("shuffle", "reinit", "invert", "random")
CONTROLS = (*MASKED, "small-dense")
IMAGES = Regression((3, 8, 8), 3, count=2)


@functools.cache
def program_of(name):
    if name == "mlp":
        torch.manual_seed(0)
        return sp.capture(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (torch.randn(4, 3),))
    if name == "conv":
        return resnet()[1]
    model, args, kwargs = FAMILIES[name]()
    return sp.capture(model, args, kwargs)


@functools.cache
def pruned(name, spec="weight-prune:sparsity=0.5"):
    return sp.run(program_of(name), [spec]).program


def control(program, options, **more):
    result = sp.run(program, [f"sanity:{options}"], **more)
    return result.program, result.report["passes"][0]


def counts(program):
    return {name: int(mask.sum()) for name, mask in program.masks.items()}


def parameters(program):
    return sum(value.numel() for value in program.parameters.values())


def left(program):
    return parameters(program) - sum(int((~mask).sum()) for mask in program.masks.values())


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("kind", MASKED)
def test_the_graph_is_that_of_the_pruned_model(kind):
    before = pruned("mlp")
    program, record = control(before, f"control={kind}")
    for each in (before, program):  # the order of the masks does not matter
        lines = re.sub(r"where_scalar_other(_1)?", "where", str(each)).splitlines()
        assert sorted(lines) == sorted(GOLDEN.strip().splitlines())
    assert program.history == ("weight-prune:sparsity=0.5", f"sanity:control={kind}")
    assert record["parameters_left"] == left(before) == 16
    assert record["done"] == f"{kind} control with 16 parameters"


def test_small_dense_is_the_same_network_with_fewer_channels():
    program, record = control(pruned("mlp"), "control=small-dense")
    assert str(program) == SMALLER.strip()  # 26 - 10 parameters should stay, and a channel has 6
    assert record["parameters_left"] == parameters(program) == 14


@pytest.mark.parametrize("name", ["conv", "gpt2", "llama"])
@pytest.mark.parametrize("kind", MASKED)
@pytest.mark.parametrize(
    "spec",
    [
        "weight-prune:sparsity=0.7,allocation=lamp",
        "weight-prune:pattern=2:4",
        "weight-prune:pattern=block2x2,sparsity=0.5,scope=layer",
        "channel-prune:sparsity=0.4",
    ],
    ids=["unstructured", "2:4", "tiles", "channels"],
)
def test_of_every_layer_as_much_stays(name, kind, spec):
    before = pruned(name, spec)
    program, record = control(before, f"control={kind}")
    if "block" not in spec:  # tiles at the edges are smaller, so that their number stays, but not that of weights
        assert counts(program) == counts(before)
        assert record["parameters_left"] == left(before)
    assert {n: v.shape for n, v in program.parameters.items()} == {n: v.shape for n, v in before.parameters.items()}
    assert equal(program.masks, before.masks) == (kind == "reinit")
    if spec.startswith("channel"):
        assert not isinstance(kept_channels(program), str)


@pytest.mark.parametrize("spec", ["weight-prune:sparsity=0.5", "channel-prune:sparsity=0.5"])
def test_what_is_kept_of_the_values(spec):
    before = pruned("conv", spec)
    for kind in ("shuffle", "invert"):
        program, _ = control(before, f"control={kind}")
        assert equal(program.parameters, before.parameters)
    for kind in ("reinit", "random"):
        program, _ = control(before, f"control={kind}")
        for name, value in program.parameters.items():
            assert value.ndim < 2 or not (value == before.parameters[name]).any()
    shuffled = control(before, "control=reinit,init=shuffle")[0].parameters
    for name, value in shuffled.items():
        if value.ndim > 1:
            assert torch.equal(value.flatten().sort().values, before.parameters[name].flatten().sort().values)


def test_random_is_shuffle_and_reinit():
    before = pruned("conv")
    both, shuffled, drawn = (control(before, f"control={kind}")[0] for kind in ("random", "shuffle", "reinit"))
    assert equal(both.masks, shuffled.masks)
    assert equal(both.parameters, drawn.parameters)


def test_invert_keeps_exactly_what_scores_lowest():
    before = pruned("conv")
    program, _ = control(before, "control=invert")
    for name, mask in program.masks.items():
        magnitudes = before.parameters[name].detach().abs()
        assert mask.all() or magnitudes[mask].max() <= magnitudes[~mask].min()


def test_invert_takes_the_criterion_of_the_pruning():
    before = sp.run(program_of("conv"), ["weight-prune:sparsity=0.5,criterion=snip"], task=IMAGES).program
    program, _ = control(before, "control=invert,criterion=snip", task=IMAGES)
    assert counts(program) == counts(before)
    other, _ = control(before, "control=invert")
    assert not equal(program.masks, other.masks)
    half = [name for name, mask in before.masks.items() if 2 * int(mask.sum()) == mask.numel()]
    assert all(torch.equal(program.masks[name], ~before.masks[name]) for name in half)


def test_invert_takes_a_criterion_that_scores_channels_alone():
    spec = "channel-prune:sparsity=0.5,criterion=apoz"
    before = sp.run(program_of("conv"), [spec], task=IMAGES).program
    program, _ = control(before, "control=invert,criterion=apoz", task=IMAGES)
    assert counts(program) == counts(before)
    assert not equal(program.masks, before.masks)


@pytest.mark.parametrize("kind", [kind for kind in CONTROLS if kind != "invert"])
def test_the_seed_decides(kind):
    before = pruned("conv")
    one, same, other = (control(before, f"control={kind}", seed=seed)[0] for seed in (0, 0, 1))
    assert equal(one.parameters, same.parameters)
    assert equal(one.masks, same.masks)
    assert not (equal(one.parameters, other.parameters) and equal(one.masks, other.masks))


@pytest.mark.parametrize("name", ["conv", "gpt2", "llama"])
@pytest.mark.parametrize("spec", ["weight-prune:sparsity=0.5", "channel-prune:sparsity=0.4"])
def test_small_dense_has_as_many_parameters_as_stay(name, spec):
    before = pruned(name, spec)
    program, record = control(before, "control=small-dense")
    assert program.masks == {}
    assert record["parameters_left"] == parameters(program)
    assert parameters(program) == pytest.approx(left(before), abs=0.02 * parameters(before))  # less than one channel
    own = before.parameters
    assert not any(torch.equal(value, own[n]) for n, value in program.parameters.items() if value.ndim > 1)


@pytest.mark.parametrize("kind", CONTROLS)
def test_the_program_is_not_changed(kind):
    before = pruned("conv")
    text, values = str(before), {n: v.detach().clone() for n, v in {**before.parameters, **before.buffers}.items()}
    control(before, f"control={kind}")
    assert str(before) == text
    assert equal({**before.parameters, **before.buffers}, values)


@pytest.mark.parametrize("kind", some(["small-dense"], CONTROLS))
def test_a_control_is_shrunk_and_exported_like_any_other(kind, tmp_path):
    passes = ["channel-prune:sparsity=0.5", f"sanity:control={kind}", "shrink"]
    program = sp.run(program_of("conv"), passes).program
    own = sp.run(program_of("conv"), [passes[0], "shrink"]).program
    assert program.masks == {}
    if kind != "small-dense":
        assert {n: v.shape for n, v in program.parameters.items()} == {n: v.shape for n, v in own.parameters.items()}
    export_onnx(program, tmp_path / "control.onnx")  # onnxruntime computes the same, or this raises
    assert (tmp_path / "control.onnx").stat().st_size > 0


def test_a_masked_control_is_exported(tmp_path):
    program, _ = control(pruned("conv", "weight-prune:pattern=2:4"), "control=random")
    export_onnx(program, tmp_path / "control.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "control.onnx")
    x = torch.randn(3, 3, 8, 8)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():  # sums in another order, of float32
        torch.testing.assert_close(torch.from_numpy(found), program.module()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CONTROLS)
def test_what_has_no_masks_is_refused(kind):
    with pytest.raises(PassError, match=r"Nothing is masked\. Prune first; .* before shrink"):
        control(program_of("conv"), f"control={kind}")
    with pytest.raises(PassError, match="Nothing is masked"):
        sp.run(program_of("conv"), ["channel-prune:sparsity=0.5", "shrink", f"sanity:control={kind}"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "control"),
        ("control=shufle", "shuffle"),
        ("control=invert,criterion=magnitudo", "did you mean 'magnitude'"),
        ("control=reinit,init=zeros", "kaiming"),
        ("control=invert,batches=0", "batches=0 is less than 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        control(pruned("conv"), options)


def test_data_that_is_lacking_is_refused():
    with pytest.raises(PassError, match="needs a loss"):
        control(pruned("conv"), "control=invert,criterion=snip")
    with pytest.raises(PassError, match="apoz scores channels, not weights"):
        control(pruned("conv"), "control=invert,criterion=apoz", task=IMAGES)


@pytest.mark.parametrize("options", ["control=shuffle", "control=invert", "control=reinit,init=shuffle"])
def test_a_control_of_values_that_are_gone_is_refused(options):
    """After reconstruct the masked weights are zeros: a control that takes them would have to lose."""
    program = sp.run(program_of("conv"), ["weight-prune:sparsity=0.5", "reconstruct:batches=1"], IMAGES).program
    with pytest.raises(PassError, match="The weights under the masks are zeros"):
        control(program, options)
    after, _ = control(program, "control=random")
    assert counts(after) == counts(program)
