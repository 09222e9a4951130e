"""How ONNX files hold pruned weights."""

import onnx
import onnxruntime
import pytest
import torch
from helpers.packable import packable
from torch import nn

import sparsify as sp
from sparsify.errors import ExportError, InputError, UsageError
from sparsify.export import storage as storage_module
from sparsify.export.storage import Storage, parse_storage, size, unpacked_file


@pytest.fixture
def pruned():
    return packable()


def outputs(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x.numpy()})[0]


def test_packed_is_smaller_and_computes_the_same_bits(pruned, tmp_path):
    dense = sp.export_onnx(pruned, tmp_path / "dense.onnx")
    packed = sp.export_onnx(pruned, tmp_path / "packed.onnx", storage="packed")
    assert dense["storage"] == "dense"
    assert packed["storage"] == "packed"
    assert packed["dense_bytes"] == dense["bytes"] == (tmp_path / "dense.onnx").stat().st_size
    assert packed["bytes"] == (tmp_path / "packed.onnx").stat().st_size < 0.17 * dense["bytes"]
    assert packed["rounding"] == 0.0
    x = torch.randn(5, 3, 8, 8)
    assert (outputs(tmp_path / "packed.onnx", x) == outputs(tmp_path / "dense.onnx", x)).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense.onnx", "packed.onnx"]


def test_auto_packs_only_what_gets_smaller(pruned, tmp_path):
    assert sp.export_onnx(pruned, tmp_path / "m.onnx", storage="auto")["storage"] == "packed"
    program = sp.capture(nn.Linear(64, 64), (torch.randn(2, 64),))
    for mode in ("auto", "packed"):
        assert sp.export_onnx(program, tmp_path / "m.onnx", storage=mode)["storage"] == "dense"
        assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node] == ["Gemm"]
    a_little = sp.run(program, ["weight-prune:sparsity=0.1"]).program
    assert sp.export_onnx(a_little, tmp_path / "m.onnx", storage="auto")["storage"] == "dense"


def test_rounded_values_say_what_that_changed(pruned, tmp_path):
    exact = sp.export_onnx(pruned, tmp_path / "m.onnx", storage="packed")
    small = sp.export_onnx(pruned, tmp_path / "m.onnx", storage="packed:values=int8")
    assert small["bytes"] < 0.6 * exact["bytes"]
    assert 1e-4 < small["rounding"] < 0.05
    assert sp.export_onnx(pruned, tmp_path / "m.onnx", storage="packed:values=fp16")["rounding"] < 1e-3


def test_unpacked_is_the_dense_file_again(pruned, tmp_path):
    sp.export_onnx(pruned, tmp_path / "dense.onnx")
    sp.export_onnx(pruned, tmp_path / "packed.onnx", storage="packed")
    names, before, after = unpacked_file(tmp_path / "packed.onnx", tmp_path / "again.onnx")
    assert names == ["4.weight"]
    assert (before, after) == tuple(size(tmp_path / name) for name in ("packed.onnx", "again.onnx"))
    dense, again = (onnx.load(tmp_path / name).graph for name in ("dense.onnx", "again.onnx"))
    assert [node.op_type for node in dense.node] == [node.op_type for node in again.node]
    values = [{v.name: onnx.numpy_helper.to_array(v).tobytes() for v in graph.initializer} for graph in (dense, again)]
    assert values[0] == values[1]


def test_what_cannot_be_unpacked_is_said(pruned, tmp_path):
    sp.export_onnx(pruned, tmp_path / "dense.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    for name, message in (
        ("dense.onnx", "No weight of this model is packed"),
        ("bad.onnx", "is not an ONNX model"),
        ("none.onnx", "cannot be opened"),
    ):
        with pytest.raises(InputError, match=message):
            unpacked_file(tmp_path / name, tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx").exists()


def test_large_weights_lie_beside_the_file(pruned, tmp_path, monkeypatch):
    monkeypatch.setattr(storage_module, "_LIMIT", 50_000)
    report = sp.export_onnx(pruned, tmp_path / "m.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert report["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    x = torch.randn(5, 3, 8, 8)
    expected = outputs(tmp_path / "m.onnx", x)
    packed = sp.export_onnx(pruned, tmp_path / "packed.onnx", storage="packed")
    assert packed["dense_bytes"] == pytest.approx(report["bytes"], abs=64)  # the names in them differ
    assert not (tmp_path / "packed.onnx.data").exists()
    assert (outputs(tmp_path / "packed.onnx", x) == expected).all()


def test_a_file_that_computes_something_else_is_refused(pruned, tmp_path, monkeypatch):
    real = storage_module.pack

    def wrong(model, *given):
        found = real(model, *given)
        held = model.graph.initializers["4.weight.values"]
        held.const_value = type(held.const_value)(2 * held.const_value.numpy(), name=held.name)
        return found

    monkeypatch.setattr(storage_module, "pack", wrong)
    with pytest.raises(ExportError, match="something else with packed weights"):
        sp.export_onnx(pruned, tmp_path / "m.onnx", storage="packed")
    assert not list(tmp_path.iterdir())


def test_specs_of_storage():
    assert parse_storage("packed:values=int8") == Storage("packed", "int8")
    assert parse_storage("auto") == Storage("auto")
    for text, message in (
        ("zip", "there is no 'zip'. Use dense, packed, auto"),
        ("packed:values=fp8", "values='fp8'"),
        ("dense:values=int8", "only values of packed weights are rounded"),
        ("packed:mode=auto", "write the mode first"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_storage(text)


def test_the_weights_of_a_replaced_model_go_with_it_and_no_others(pruned, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(storage_module, "_LIMIT", 50_000)
        sp.export_onnx(pruned, tmp_path / "m.onnx")
    sp.export_onnx(pruned, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    (tmp_path / "m.onnx.data").write_bytes(b"something else")
    sp.export_onnx(pruned, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").read_bytes() == b"something else"


def test_auto_leaves_what_tensor_cores_take_sparse(tmp_path):
    torch.manual_seed(0)
    program = sp.capture(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)), (torch.randn(2, 64),))
    half = sp.run(program, ["weight-prune:pattern=2:4"]).program
    told = sp.export_onnx(half, tmp_path / "auto.onnx", storage="auto")
    assert (told["storage"], len(told["two_of_four"])) == ("dense", 2)
    assert sp.export_onnx(half, tmp_path / "packed.onnx", storage="packed")["storage"] == "packed"
