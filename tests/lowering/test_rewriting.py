"""Lowering: which layers can be, that the program stays the same, and the way back to dense layers."""

import subprocess
import sys

import onnx
import pytest
import torch
from helpers.matrices import same_bits
from helpers.regression import Regression
from torch import nn

import sparsify as sp
from sparsify import verify
from sparsify.errors import PassError
from sparsify.kernels._register import OPERATORS
from sparsify.lowering.raising import raised
from sparsify.lowering.sites import FORMS, operator_of, sites
from sparsify.masking import baked

LOWERINGS = {
    "lower-index": "weight-prune:sparsity=0.7,scope=layer",
    "lower-bitmask": "weight-prune:sparsity=0.5,scope=layer",
    "lower-nm": "weight-prune:pattern=2:4",
    "lower-block:pattern=block4": "weight-prune:pattern=block4,sparsity=0.5,scope=layer",
}


class Mixed(nn.Module):
    """Layers of every kind that is lowered, and of some that are not."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(4, 8, 3, padding=1)
        self.point = nn.Conv2d(8, 16, 1)
        self.stride = nn.Conv2d(16, 16, 1, stride=2)
        self.first = nn.Linear(16, 24)
        self.second = nn.Linear(24, 24, bias=False)
        self.turned = nn.Parameter(torch.randn(24, 12))
        self.added = nn.Parameter(torch.randn(12, 8))
        self.bias = nn.Parameter(torch.randn(8))

    def forward(self, x):
        x = self.stride(self.point(self.wide(x).relu()).relu()).mean((2, 3))
        x = self.second(self.first(x).relu()).relu()
        x = x @ self.turned
        return torch.addmm(self.bias, x, self.added)


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    return sp.capture(Mixed(), (torch.randn(2, 4, 6, 6),))


def lower(program, spec):
    return sp.run(program, [LOWERINGS[spec], spec])


def operators(program):
    return [
        node.target._schema.name
        for node in program.graph.nodes
        if "sparsify::" in str(getattr(node.target, "_schema", ""))
    ]


@pytest.mark.parametrize("spec", LOWERINGS)
def test_every_layer_that_can_be_is_lowered(program, spec):
    result = lower(program, spec)
    record = result.report["passes"][1]
    assert set(record["lowered"]) == {"point.weight", "first.weight", "second.weight", "turned", "added"}
    reasons = record["skipped"]
    assert reasons["stride.weight"] == "conv2d_2 has a stride or padding"
    if "wide.weight" in reasons:
        assert reasons["wide.weight"] == "it is a convolution larger than 1x1, which stays dense"
    assert operators(result.program) == [f"sparsify::{spec.partition(':')[0].removeprefix('lower-')}_linear"] * 5
    assert not {"point.weight", "first.weight", "turned"} & {*result.program.parameters}
    pruned = sp.run(program, [LOWERINGS[spec]]).program
    verify.equivalent(pruned, result.program)
    assert sp.cost(result.program).macs < sp.cost(pruned).macs
    assert sp.cost(result.program).bytes < sp.cost(pruned).bytes


@pytest.mark.parametrize("spec", LOWERINGS)
def test_back_to_dense_layers_with_the_same_bits(program, spec):
    pruned = baked(sp.run(program, [LOWERINGS[spec]]).program)
    dense = raised(lower(program, spec).program)
    assert operators(dense) == []
    assert dense.masks.keys() <= {"wide.weight", "stride.weight"}
    for name in ("first.weight", "second.weight"):
        assert same_bits(dense.parameters[name].detach(), pruned.parameters[name].detach())
    for name in ("turned", "added"):
        assert same_bits(dense.parameters[name].detach(), pruned.parameters[name].detach().t().contiguous())
    verify.equivalent(pruned, dense)


def test_a_program_without_sparse_operators_stays_itself(program):
    assert raised(program) is program


@pytest.mark.parametrize("spec", LOWERINGS)
def test_onnx_files_are_dense_with_zeros(program, spec, tmp_path):
    low = lower(program, spec).program
    sp.export_onnx(low, tmp_path / "low.onnx")
    model = onnx.load(tmp_path / "low.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    zeros = {tuple(t.dims): int((onnx.numpy_helper.to_array(t) == 0).sum()) for t in model.graph.initializer}
    assert zeros.get((24, 24), zeros.get((24, 24))) >= 24 * 24 * 0.4


@pytest.mark.parametrize("spec", LOWERINGS)
def test_another_process_reads_the_file(program, spec, tmp_path):
    low = lower(program, spec).program
    sp.save(low, tmp_path / "low.pt2")
    again = sp.load(tmp_path / "low.pt2")
    assert operators(again) == operators(low)
    x = torch.randn(3, 4, 6, 6)
    assert torch.equal(again.module()(x), low.module()(x))
    if spec == "lower-index":
        script = "import sys, sparsify; print(len(sparsify.load(sys.argv[1]).parameters))"
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "low.pt2")], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == len(low.parameters)


@pytest.mark.parametrize("spec", LOWERINGS)
def test_what_is_stored_is_trained(program, spec):
    low = lower(program, spec).program
    trained = sp.retrain(low, "fine-tune:steps=3it,learning_rate=0.01", Regression((4, 6, 6), 8)).program
    assert operators(trained) == operators(low)
    for name, value in low.parameters.items():
        assert not torch.equal(value, trained.parameters[name]), name


def test_who_else_reads_a_weight_keeps_it_dense():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8))
            self.other = nn.Linear(8, 8)

        def forward(self, x):
            return self.other(x @ self.weight) + self.weight.mean()

    tied = sp.capture(Tied(), (torch.randn(2, 8),))
    result = sp.run(tied, ["weight-prune:sparsity=0.5,scope=layer", "lower-index"])
    assert result.report["passes"][1]["skipped"] == {"weight": "something else reads it, too"}
    assert operators(result.program) == ["sparsify::index_linear"]


def test_what_only_and_protect_leave(program):
    pruned = sp.run(program, [LOWERINGS["lower-index"]]).program
    for options in ("only=first", "protect=point,second,turned,added,wide,stride"):
        assert list(sp.run(pruned, [f"lower-index:{options}"]).report["passes"][0]["lowered"]) == ["first.weight"]
    with pytest.raises(PassError, match="protect=firs matches no parameter"):
        sp.run(pruned, ["lower-index:protect=firs"])


def test_without_masks_there_is_nothing_to_lower(program):
    with pytest.raises(PassError, match="no weight has a mask"):
        sp.run(program, ["lower-index"])


def test_sites_name_every_masked_weight(program):
    pruned = sp.run(program, [LOWERINGS["lower-index"]]).program
    assert {site.name for site in sites(pruned)} == pruned.masks.keys()


def test_operators_are_known_by_name():
    assert sorted(form.operator for form in FORMS.values()) == sorted(OPERATORS)
    for kind, form in FORMS.items():
        assert operator_of(kind).name() == f"sparsify::{form.operator}"
