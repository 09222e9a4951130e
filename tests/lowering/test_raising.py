"""Raising: dense layers again, with the same bits, in the graph and in files."""

import onnx
import pytest
from helpers.lowered import LOWERINGS, lower, mixed, operators
from helpers.matrices import same_bits

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
