"""Raising: dense layers again, with the same bits, in the graph and in files."""

import onnx
import pytest
import torch
from helpers.lowered import LOWERINGS, lower, mixed, operators
from helpers.matrices import same_bits
from torch import nn

import sparsify as sp
from sparsify import verify
from sparsify.lowering.raising import raised
from sparsify.masking import baked


@pytest.mark.parametrize("spec", LOWERINGS)
def test_back_to_dense_layers_with_the_same_bits(spec):
    pruned = baked(sp.run(mixed(), [LOWERINGS[spec]]).program)
    dense = raised(lower(spec).program)
    assert operators(dense) == []
    assert dense.masks.keys() <= {"wide.weight", "stride.weight"}
    for name in ("first.weight", "second.weight"):
        assert same_bits(dense.parameters[name].detach(), pruned.parameters[name].detach())
    for name in ("turned", "added"):
        assert same_bits(dense.parameters[name].detach(), pruned.parameters[name].detach().t().contiguous())
    verify.equivalent(pruned, dense)


def test_a_program_without_sparse_operators_stays_itself():
    assert raised(mixed()) is mixed()


@pytest.mark.parametrize("spec", LOWERINGS)
def test_onnx_files_are_dense_with_zeros(spec, tmp_path):
    low = lower(spec).program
    sp.export_onnx(low, tmp_path / "low.onnx")
    model = onnx.load(tmp_path / "low.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    zeros = {tuple(t.dims): int((onnx.numpy_helper.to_array(t) == 0).sum()) for t in model.graph.initializer}
    assert zeros.get((24, 24), zeros.get((24, 24))) >= 24 * 24 * 0.4


def test_convolutions_are_convolutions_again_in_files(tmp_path):
    sp.export_onnx(lower("lower-index").program, tmp_path / "low.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "low.onnx").graph.node]
    assert kinds.count("Conv") == 3
    assert "Transpose" not in kinds[: kinds.index("ReduceMean")]


class Patches(nn.Module):
    """A layer on patches that a user cut, in other ways than lowering does."""

    def __init__(self, way):
        super().__init__()
        self.layer, self.way = nn.Linear(36, 8), way

    def forward(self, x):
        if self.way == "sides":
            x = nn.functional.pad(x, (0, 2, 1, 1))
        x = x.unfold(2, 3, 1).unfold(3, 3, 1)
        order = (0, 3, 2, 1, 4, 5) if self.way == "order" else (0, 2, 3, 1, 4, 5)
        y = self.layer(x.permute(order).flatten(3)).permute(0, 3, 1, 2)
        return y.softmax(1) if self.way == "after" else y.contiguous()


@pytest.mark.parametrize("way", ["sides", "order", "after", "same"])
def test_patches_of_somebody_else_are_what_they_are(way):
    torch.manual_seed(0)
    program = sp.capture(Patches(way), (torch.randn(2, 4, 6, 6),))
    pruned = sp.run(program, ["weight-prune:sparsity=0.5,scope=layer"]).program
    verify.equivalent(pruned, raised(sp.run(pruned, ["lower-index"]).program))
