"""merge-channels: copies of channels go without a trace, similar ones with less harm than if they were just removed."""

import pytest
import torch
from helpers.models import Net
from helpers.residual import settled
from helpers.trained import trained_digits
from torch import nn

import sparsify as sp
from sparsify import verify
from sparsify.errors import PassError, UsageError
from sparsify.masking import masked
from sparsify.observation.calibration import Calibration
from sparsify.reconstruction.outputs import output_gap
from sparsify.tasks.digits import Digits

BEFORE = """
%input_1: float32[batch, 3] = input
%linear: float32[batch, 4] = linear(%input_1, 0.weight, 0.bias)
%relu: float32[batch, 4] = relu(%linear)
%linear_1: float32[batch, 2] = linear(%relu, 2.weight, 2.bias)
return [%linear_1]
"""
AFTER = """
%where_scalar_other_2: float32[4, 3] = where.ScalarOther(0.weight_mask, 0.weight, 0.0)
%where_scalar_other_1: float32[2, 4] = where.ScalarOther(2.weight_mask, 2.weight, 0.0)
%where_scalar_other: float32[4] = where.ScalarOther(0.bias_mask, 0.bias, 0.0)
%input_1: float32[batch, 3] = input
%linear: float32[batch, 4] = linear(%input_1, %where_scalar_other_2, %where_scalar_other)
%relu: float32[batch, 4] = relu(%linear)
%linear_1: float32[batch, 2] = linear(%relu, %where_scalar_other_1, 2.bias)
return [%linear_1]
"""
TASK = Digits()


def mlp(factor=1.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = factor * model[0].weight[1], factor * model[0].bias[1]
    return sp.capture(model, (torch.randn(8, 3),))


def done(program, options, *more, **settings):
    result = sp.run(program, [f"merge-channels:{options}", *more], **settings)
    return result.program, result.report["passes"]


def gap(one, other):
    (expected,), (found,) = verify.outputs(one), verify.outputs(other)
    return float((expected - found).norm() / expected.norm())


@pytest.mark.parametrize("method", ["mean", "cluster"])
def test_masks_are_written_and_the_output_stays(method):
    before = mlp()
    values = {name: value.clone() for name, value in before.parameters.items()}
    program, (record,) = done(before, f"sparsity=0.25,method={method}")
    assert str(before) == BEFORE.strip()
    assert str(program) == AFTER.strip()
    assert all(torch.equal(value, values[name]) for name, value in before.parameters.items())
    assert program.masks["0.bias"].tolist() == [True, True, False, True]
    assert record["groups"] == {"0": "4 -> 3"}
    assert record["skipped"] == {}
    assert gap(before, program) < 1e-6


@pytest.mark.parametrize("method", ["mean", "cluster"])
@pytest.mark.parametrize("factor", [1.0, 0.2, 7.0])
def test_copies_and_multiples_are_gone_after_shrinking(factor, method):
    before = mlp(factor)
    program, (_, shrunk) = done(before, f"sparsity=0.25,method={method}", "shrink")
    assert shrunk["removed"] == {"0": "4 -> 3"}
    assert program.parameters["0.weight"].shape == (3, 3)
    assert gap(before, program) < 1e-6


def blocks():
    """A convolution behind a stem, with copies of channels in both and norms of their own, and a flat head."""
    torch.manual_seed(0)
    model = settled(nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(24, 5)))  # fmt: skip
    with torch.no_grad():
        for value in (model[0].weight, model[1].weight, model[1].bias, model[1].running_mean, model[1].running_var):
            value[4:] = value[:4]
        for value in (model[3].weight, model[3].bias):
            value[3:] = 2 * value[:3]
    return sp.capture(model, (torch.randn(2, 3, 8, 8),))


@pytest.mark.parametrize("method", ["mean", "cluster"])
def test_half_of_a_network_of_copies_goes_without_a_trace(method):
    before = blocks()
    program, (record, _) = done(before, f"sparsity=0.5,method={method}", "shrink")
    assert record["groups"] == {"0": "8 -> 4", "3": "6 -> 3"}
    assert program.parameters["3.weight"].shape == (3, 4, 3, 3)
    assert gap(before, program) < 1e-5


@pytest.mark.parametrize(("sparsity", "left"), [(0.0, 10), (0.04, 10), (0.05, 9), (0.34, 7), (0.99, 1)])
def test_the_number_of_channels_is_exact(sparsity, left):
    torch.manual_seed(0)
    before = sp.capture(nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3)), (torch.randn(2, 4),))
    program, (record,) = done(before, f"sparsity={sparsity}")
    assert record["groups"] == ({"0": f"10 -> {left}"} if left < 10 else {})
    if left == 10:
        assert str(program) == str(before)
        assert all(torch.equal(value, before.parameters[name]) for name, value in program.parameters.items())
    else:
        assert int(program.masks["0.bias"].sum()) == left


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained_digits(tmp_path_factory)


@pytest.mark.parametrize("method", ["mean", "cluster"])
def test_similar_channels_do_less_harm_merged_than_removed(digits, method):
    program, (record, shrunk) = done(digits, f"sparsity=0.25,method={method}", "shrink")
    assert len(record["groups"]) == 9
    assert set(record["groups"].values()) == {"16 -> 12", "32 -> 24", "64 -> 48"}
    assert shrunk["removed"] == record["groups"]
    assert all("layers make its channels" in reason for reason in record["skipped"].values())
    merged, _ = done(digits, f"sparsity=0.25,method={method}")
    removed = masked(digits, merged.masks)
    data = Calibration(TASK, 4)
    assert output_gap(digits, program, data) < output_gap(digits, removed, data)
    assert TASK.score(program.module()).value > TASK.score(removed.module()).value - 0.02  # of 450 images


def test_what_is_protected_stays():
    before = blocks()
    for pattern in ("0", "1"):  # the norm is of the group, too
        program, (record,) = done(before, f"sparsity=0.5,protect={pattern}")
        assert "0" not in record["groups"]
        assert record["skipped"]["0"] == "it is protected"
        assert torch.equal(program.parameters["0.weight"], before.parameters["0.weight"])
    with pytest.raises(PassError, match="0: it is protected; 3: it is protected"):
        done(before, "sparsity=0.5,protect=3.weight")  # made by one group, read from another


def test_what_is_masked_already_stays():
    mask = torch.ones(5, 24, dtype=torch.bool)
    mask[2, 3] = False
    _, (record,) = done(masked(blocks(), {"7.weight": mask}), "sparsity=0.5")
    assert record["skipped"] == {"3": "it is masked already; shrink first"}
    assert record["groups"] == {"0": "8 -> 4"}


def test_what_cannot_be_merged_is_said():
    model = Net(lambda s, x: s.c(s.a(x).relu() * s.b(x)), a=nn.Linear(3, 4), b=nn.Linear(3, 4), c=nn.Linear(4, 2))
    with pytest.raises(PassError, match=r"no group of channels to merge \(a: 2 layers make its channels\)"):
        done(sp.capture(model.eval(), (torch.randn(2, 3),)), "sparsity=0.5")
    with pytest.raises(PassError, match=r"no group of channels to merge\."):
        done(sp.capture(nn.Linear(3, 2), (torch.randn(2, 3),)), "sparsity=0.5")


def test_heads_and_streams_are_left_alone():
    from helpers.zoo import FAMILIES

    model, args, kwargs = FAMILIES["gpt2"]()
    before = sp.capture(model, args, kwargs)
    program, (record, _) = done(before, "sparsity=0.2", "shrink")
    assert set(record["groups"]) == {"transformer.h.0.mlp.c_fc", "transformer.h.1.mlp.c_fc"}
    assert program.parameters["transformer.h.0.mlp.c_fc.weight"].shape == (48, 64)


def test_concatenations_and_halves():
    def forward(s, x):
        one, other = s.d(torch.cat([s.a(x).relu(), s.b(x).relu()], 1)).chunk(2, 1)
        return s.e(one.relu()) + s.e(other.relu())

    torch.manual_seed(0)
    parts = {"a": (3, 4), "b": (3, 5), "d": (9, 12), "e": (6, 2)}
    model = Net(forward, **{name: nn.Conv2d(*sizes, 1) for name, sizes in parts.items()}).eval()
    with torch.no_grad():
        model.b.weight[4], model.b.bias[4] = model.b.weight[0], model.b.bias[0]
    before = sp.capture(model, (torch.randn(2, 3, 4, 4),))
    program, (record, _) = done(before, "sparsity=0.2,protect=a", "shrink")
    assert record["groups"] == {"b": "5 -> 4"}
    assert gap(before, program) < 1e-6


def test_twice_is_the_same():
    one, two = (done(blocks(), "sparsity=0.4,method=mean")[0] for _ in range(2))
    assert all(torch.equal(value, two.parameters[name]) for name, value in one.parameters.items())
    assert all(torch.equal(mask, two.masks[name]) for name, mask in one.masks.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "sparsity"),
        ("sparsity=1", r"sparsity=1\.0 is not in \[0, 1\)"),
        ("sparsity=-0.1", r"sparsity=-0\.1 is not in \[0, 1\)"),
        ("sparsity=0.5,method=magic", "magic"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        done(mlp(), options)
