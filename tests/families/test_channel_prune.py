"""Every network of the zoo: inspected, pruned by half, shrunken, trained for a step and run in onnxruntime."""

from types import SimpleNamespace

import pytest
import torch
from helpers.marks import some
from helpers.zoo import FAMILIES, NETWORKS
from torch.utils import _pytree as pytree

import sparsify as sp
from sparsify import verify
from sparsify.errors import ExportError
from sparsify.export.onnx import feed
from sparsify.groups import groups

ort = pytest.importorskip("onnxruntime")

ENTRIES = {**FAMILIES, **NETWORKS}
NO_ONNX = {"mystery": "its operator is the user's own", "channel-order": "torch writes no median along a dimension"}


# Writing a file takes seconds: the hand-written networks are written in the slow run.
WRITTEN = some(FAMILIES, ENTRIES)


@pytest.fixture(scope="module", params=ENTRIES)
def pruned(request):
    model, args, kwargs = ENTRIES[request.param]()
    program = sp.capture(model, args, kwargs)
    result = sp.run(program, ["channel-prune:sparsity=0.5,units=all", "shrink"])
    return SimpleNamespace(name=request.param, before=program, after=result.program, report=result.report)


def test_half_of_the_channels_are_gone(pruned):
    decided, shrunk = pruned.report["passes"]
    free = {group.name: group for group in groups(pruned.before) if not group.frozen}
    sizes = {group.name: group.size for group in groups(pruned.after) if not group.frozen}
    total = sum(group.size for group in free.values())
    left = sum(sizes.get(name, 1) for name in free)
    assert abs(left - total / 2) <= 1
    assert decided["reached"] == pytest.approx(1 - left / total)
    assert set(decided["groups"]) == set(shrunk["removed"]) | set(decided["removed_at_once"])
    assert not pruned.after.masks
    before, after = sp.cost(pruned.before), sp.cost(pruned.after)
    assert after.parameters < before.parameters
    assert after.macs < before.macs


def test_what_was_promised_was_proven(pruned):
    decided, shrunk = pruned.report["passes"]
    assert shrunk["contract"] == "exact"
    assert shrunk["largest_difference"] <= 1e-5
    if decided["removed_at_once"]:
        assert decided["proved"] <= 1e-5
    assert verify.signature(pruned.after) == verify.signature(pruned.before)


def test_a_step_of_training(pruned):
    module = pruned.after.module(training=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    found = module(*pruned.after.example.args, **pruned.after.example.kwargs)
    loss = sum(value.square().mean() for value in pytree.tree_leaves(found) if torch.is_floating_point(value))
    loss.backward()
    dense = pruned.before.module(training=True)
    values = pytree.tree_leaves(dense(*pruned.before.example.args, **pruned.before.example.kwargs))
    sum(value.square().mean() for value in values if torch.is_floating_point(value)).backward()
    reached = {name for name, p in dense.named_parameters() if p.grad is not None}
    assert {name for name, p in module.named_parameters() if p.grad is not None} == reached
    optimizer.step()
    assert all(bool(torch.isfinite(value).all()) for value in module.parameters())


@pytest.mark.parametrize("pruned", WRITTEN, indirect=True, scope="module")
def test_onnx_computes_the_same_at_two_batch_sizes(pruned, tmp_path):
    if pruned.name in NO_ONNX:
        with pytest.raises(ExportError):
            sp.export_onnx(pruned.after, tmp_path / "small.onnx")
        return
    path = tmp_path / "small.onnx"
    sp.export_onnx(pruned.after, path)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    trials = verify.trial_inputs(pruned.after)
    assert len(trials) == 2
    for leaves in trials:
        expected = [value for value in verify.outputs(pruned.after, leaves) if isinstance(value, torch.Tensor)]
        for one, other in zip(expected, session.run(None, feed(pruned.after, leaves)), strict=True):
            assert verify.difference(one, torch.from_numpy(other)) <= 1e-3  # float32 in another order of sums
