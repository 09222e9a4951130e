"""Rewriting: which layers become sparse operators, and that the program stays the same."""

import subprocess
import sys

import pytest
import torch
from helpers.lowered import LOWERINGS, lower, mixed, operators
from helpers.regression import Regression
from torch import nn

import sparsify as sp
from sparsify import verify
from sparsify.formats.index import Index
from sparsify.inspection import inspection
from sparsify.lowering.raising import raised
from sparsify.lowering.rewriting import alone, lowered
from sparsify.lowering.sites import sites


@pytest.mark.parametrize("spec", LOWERINGS)
def test_every_layer_that_can_be_is_lowered(spec):
    result = lower(spec)
    record = result.report["passes"][1]
    assert set(record["lowered"]) == {"point.weight", "first.weight", "second.weight", "turned", "added"}
    reasons = record["skipped"]
    assert reasons["stride.weight"] == "conv2d_2 has a stride or padding"
    if "wide.weight" in reasons:
        assert reasons["wide.weight"] == "it is a convolution larger than 1x1, which stays dense"
    assert operators(result.program) == [f"sparsify::{spec.partition(':')[0].removeprefix('lower-')}_linear"] * 5
    assert not {"point.weight", "first.weight", "turned"} & {*result.program.parameters}
    pruned = sp.run(mixed(), [LOWERINGS[spec]]).program
    verify.equivalent(pruned, result.program)
    assert sp.cost(result.program).macs < sp.cost(pruned).macs
    assert sp.cost(result.program).bytes < sp.cost(pruned).bytes


@pytest.mark.parametrize("spec", LOWERINGS)
def test_another_process_reads_the_file(spec, tmp_path):
    low = lower(spec).program
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
        script = (
            "import sys, torch, sparsify; sparsify.register_operators(); "
            "print(len(list(torch.export.load(sys.argv[1]).parameters())))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "low.pt2")], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == len(low.parameters)


@pytest.mark.parametrize("spec", LOWERINGS)
def test_what_is_stored_is_trained(spec):
    low = lower(spec).program
    trained = sp.retrain(low, "fine-tune:steps=3it,learning_rate=0.01", Regression((4, 6, 6), 8)).program
    assert operators(trained) == operators(low)
    for name, value in low.parameters.items():
        assert not torch.equal(value, trained.parameters[name]), name


def test_activations_become_part_of_the_operator():
    found = lower("lower-index").program
    by_bias = {
        str(node.args[1].target).removesuffix("_values"): node.args[5]
        for node in found.graph.nodes
        if "sparsify::" in str(getattr(node.target, "_schema", ""))
    }
    assert by_bias == {"point.weight": "relu", "first.weight": "relu", "second.weight": "relu", "turned": "none",
                       "added": "none"}  # fmt: skip
    left = [node for node in found.graph.nodes if node.target is torch.ops.aten.relu.default]
    assert [node.args[0].target for node in left] == [torch.ops.aten.conv2d.default]


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.GELU(approximate="tanh"), nn.Tanh()], ids=str)
def test_only_activations_that_operators_know(activation):
    torch.manual_seed(0)
    program = sp.capture(nn.Sequential(nn.Linear(8, 8), activation), (torch.randn(2, 8),))
    pruned = sp.run(program, ["weight-prune:sparsity=0.5,scope=layer"]).program
    found = sp.run(pruned, ["lower-index"]).program
    fused = str(activation) in ("GELU(approximate='none')", "SiLU()")
    assert len([node for node in found.graph.nodes if node.op == "call_function"]) == (1 if fused else 2)
    verify.equivalent(pruned, found)


def test_an_activation_of_one_of_several_readers_stays():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            x = self.layer(x)
            return x.relu() + x

    program = sp.capture(Twice(), (torch.randn(2, 8),))
    found = sp.run(program, ["weight-prune:sparsity=0.5,scope=layer", "lower-index"]).program
    assert "relu" in str(found)


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), ((3, 5), (2, 1), (0, 2)), (1, 2, 0), (2, 3, 1)])
def test_convolutions_are_products_with_patches(size, stride, padding):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 6, size, stride, padding), nn.ReLU(), nn.Conv2d(6, 5, 1, bias=False))
    program = sp.capture(network, (torch.randn(2, 4, 9, 8),))
    pruned = sp.run(program, ["weight-prune:sparsity=0.5,scope=layer"]).program
    known = sites(pruned, patches=True)
    assert [site.reason for site in known] == ["", ""]
    formats = {site: Index.encode(*(site.matrix(value) for value in (
        pruned.parameters[site.name].detach(), pruned.masks[site.name]))) for site in known}  # fmt: skip
    found = lowered(pruned, formats)
    verify.check(found)
    assert found.dynamic_batch
    verify.equivalent(pruned, found)
    masked, sparse = pruned.module(training=False), found.module(training=False)
    for sizes in ((3, 9, 16), (2, 18, 16), (2, 4, 32), (1, 11, 7)):
        images = torch.randn(sizes[0], 4, *sizes[1:])
        torch.testing.assert_close(sparse(images), masked(images))
    for site, form in formats.items():
        x = torch.randn(3, 4 if site.name == "0.weight" else 6, 9, 8)
        (node,) = site.nodes
        weight = torch.where(pruned.masks[site.name], pruned.parameters[site.name].detach(), 0.0)
        bias = [pruned.parameters["0.bias"].detach()] if site.name == "0.weight" else [None]
        given = (x, weight, *bias, *node.args[3:])
        torch.testing.assert_close(alone(node, site, form)(*given), node.target(*given))
    dense = raised(found)
    assert operators(dense) == []
    convolutions = [node for node in dense.graph.nodes if node.target is torch.ops.aten.conv2d.default]
    assert len(convolutions) == len([n for n in dense.graph.nodes if n.op == "call_function"]) - 1 == 2
    verify.equivalent(pruned, dense)


@pytest.mark.parametrize("spec", LOWERINGS)
def test_other_layers_can_still_be_pruned(spec):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 8), nn.Linear(8, 8)
    )
    program = sp.capture(network, (torch.randn(2, 8),))
    low = sp.run(program, [f"{LOWERINGS[spec]},protect=0,2", spec]).program
    found = inspection(low)
    assert not found.prunable.unknown
    assert {group.reason for group in sp.groups(low) if group.frozen} >= {"a sparse format stores it"}
    pruned = sp.run(low, ["channel-prune:sparsity=0.5", "shrink"]).program
    assert pruned.parameters["0.weight"].shape == (6, 8)
    assert operators(pruned) == operators(low)


def test_convolutions_of_images_of_any_size(tmp_path):
    torch.manual_seed(0)
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    network = nn.Conv2d(4, 6, 3, 2, 1)
    torch.export.save(
        torch.export.export(network, (torch.randn(2, 4, 9, 8),), dynamic_shapes=(free,)), tmp_path / "a.pt2"
    )
    pruned = sp.run(sp.load(tmp_path / "a.pt2"), ["weight-prune:sparsity=0.5"]).program
    found = sp.run(pruned, ["lower:by=bytes"]).program
    assert "sparsify" in str(found)
    images = torch.randn(3, 4, 20, 13)
    torch.testing.assert_close(found.module()(images), pruned.module()(images))
    torch.testing.assert_close(raised(found).module()(images), pruned.module()(images))
