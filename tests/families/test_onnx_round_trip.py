"""Networks of the zoo, written as ONNX, read again, pruned, trained for a step and written again."""

import pytest
import torch
from helpers.marks import some
from helpers.zoo import FAMILIES, NETWORKS
from torch.utils import _pytree as pytree

import sparsify as sp
from sparsify import verify
from sparsify.export.onnx import feed
from sparsify.load import load

NO_ONNX = ("mystery", "channel-order")
ENTRIES = {**FAMILIES, **NETWORKS}
PASSES = ["shrink", "weight-prune:sparsity=0.5"]
UNITS = dict.fromkeys(("state-space", "sigmoid-gates"), "stream")  # they have no other groups

NAMES = some(FAMILIES, [name for name in ENTRIES if name not in NO_ONNX])


def outputs(program, feeds):
    leaves = [torch.from_numpy(feeds[str(node.target)]) for node in program.placeholders]
    return [value for value in verify.outputs(program, leaves) if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_again(name, tmp_path):
    model, args, kwargs = ENTRIES[name]()
    before = sp.capture(model, args, kwargs)
    first = sp.export_onnx(before, tmp_path / "first.onnx")
    program = load(tmp_path / "first.onnx")
    assert program.dynamic_batch
    assert not program.notes
    feeds = feed(before, before.example.leaves())
    for one, other in zip(outputs(before, feeds), outputs(program, feeds), strict=True):
        assert verify.difference(one, other) <= 10 * verify.tolerance(one)  # two rounds of what export allows
    units = f",units={UNITS[name]}" if name in UNITS else ""
    result = sp.run(program, [f"channel-prune:sparsity=0.3{units}", *PASSES]).program
    step(result)
    again = sp.export_onnx(result, tmp_path / "again.onnx")
    assert {key: again[key] for key in ("inputs", "outputs")} == {key: first[key] for key in ("inputs", "outputs")}
    assert again["bytes"] < first["bytes"]


def step(program):
    module = program.module(training=True)
    found = module(*program.example.args, **program.example.kwargs)
    loss = sum(value.square().mean() for value in pytree.tree_leaves(found) if torch.is_floating_point(value))
    loss.backward()
    assert any(bool(p.grad.any()) for p in module.parameters() if p.grad is not None)
    torch.optim.SGD(module.parameters(), lr=0.01).step()
    assert all(bool(torch.isfinite(value).all()) for value in module.parameters())


@pytest.mark.parametrize("name", some(["resnet-basic"], ["resnet-basic", "bert"]))
def test_blocks_are_found_and_removed(name, tmp_path):
    model, args, kwargs = ENTRIES[name]()
    sp.export_onnx(sp.capture(model, args, kwargs), tmp_path / "first.onnx")
    program = load(tmp_path / "first.onnx")
    result = sp.run(program, ["layer-prune:count=1"]).program
    assert sp.cost(result).parameters < sp.cost(program).parameters
