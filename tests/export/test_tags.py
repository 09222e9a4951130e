"""Tags of 2:4 weights."""

import json

import onnx
import torch
from torch import nn

import sparsify as sp


def tags(path):
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return json.loads(found["sparsify.sparsity"]) if "sparsify.sparsity" in found else None


def test_weights_that_are_two_of_four_are_named(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 6, 1), nn.Flatten(), nn.Linear(96, 12), nn.Linear(12, 5))
    program = sp.capture(model, (torch.randn(2, 4, 6, 6),))
    sp.export_onnx(program, tmp_path / "dense.onnx")
    assert tags(tmp_path / "dense.onnx") is None
    pruned = sp.run(program, ["weight-prune:pattern=2:4,protect=4"]).program
    sp.export_onnx(pruned, tmp_path / "sparse.onnx")
    names = {value.name for value in onnx.load(tmp_path / "sparse.onnx").graph.initializer}
    found = tags(tmp_path / "sparse.onnx")["2:4"]
    assert set(found) == set(pruned.masks)
    assert set(found) <= names


def test_half_of_the_weights_anywhere_is_not_two_of_four(tmp_path):
    torch.manual_seed(0)
    program = sp.capture(nn.Linear(64, 64), (torch.randn(2, 64),))
    sp.export_onnx(sp.run(program, ["weight-prune:sparsity=0.5"]).program, tmp_path / "m.onnx")
    assert tags(tmp_path / "m.onnx") is None
