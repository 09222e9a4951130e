"""ONNX models with packed weights."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from sparsify.errors import InputError
from sparsify.export.packing import PACKED, pack, unpack


def weight(share, shape, dtype=np.float32, seed=0):
    random = np.random.default_rng(seed)
    return np.where(random.random(shape) < share, random.standard_normal(shape), 0).astype(dtype)


def model_of(*weights, opset=20):
    """A chain of products."""
    held = {f"w{n}": ir.val(f"w{n}", const_value=ir.tensor(w, name=f"w{n}")) for n, w in enumerate(weights)}
    dtype = ir.DataType.from_numpy(weights[0].dtype)
    x = ir.val("x", dtype=dtype, shape=ir.Shape(["batch", weights[0].shape[0]]))
    nodes, last = [], x
    for number, value in enumerate(held.values()):
        nodes.append(ir.node("MatMul", [last, value], name=f"m{number}"))
        last = nodes[-1].outputs[0]
        last.name, last.dtype = f"y{number}", dtype
    last.shape = ir.Shape(["batch", weights[-1].shape[1]])
    graph = ir.Graph([x], [last], nodes=nodes, initializers=list(held.values()), opset_imports={"": opset}, name="g")
    return ir.Model(graph, ir_version=10)


def run(model, path, x):
    ir.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".opt"))
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = sorted(node.op_type for node in onnx.load(path.with_suffix(".opt")).graph.node)
    return session.run(None, {"x": x})[0], kinds


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("share", [0.5, 0.2, 0.05, 0.001, 0.0])
def test_onnxruntime_folds_packed_weights_to_the_same_bits(tmp_path, share, dtype):
    weights = [weight(share, (61, 37), dtype), weight(share, (37, 40), dtype, 1)]
    x = np.random.default_rng(2).standard_normal((3, 61)).astype(dtype)
    expected, kinds = run(model_of(*weights), tmp_path / "dense.onnx", x)
    model = model_of(*weights)
    found = pack(model)
    assert [item["name"] for item in found] == ["w0", "w1"]
    assert [item["kept"] for item in found] == [int(np.count_nonzero(w)) for w in weights]
    packed, left = run(model, tmp_path / "packed.onnx", x)
    assert packed.tobytes() == expected.tobytes()
    assert left == kinds


def test_never_is_nonzero_used():
    model = model_of(weight(0.5, (61, 37)), weight(0.05, (37, 40)))
    pack(model)
    assert "NonZero" not in {node.op_type for node in model.graph}


def test_unpacked_it_is_what_it_was(tmp_path):
    weights = [weight(0.3, (61, 37)), weight(0.05, (37, 40)), weight(1.0, (40, 40))]
    model = model_of(*weights)
    pack(model)
    ir.save(model, tmp_path / "packed.onnx")
    again = ir.load(tmp_path / "packed.onnx")
    assert unpack(again) == ["w0", "w1"]
    assert sorted(again.graph.initializers) == ["w0", "w1", "w2"]
    for name, expected in zip(("w0", "w1", "w2"), weights, strict=True):
        assert again.graph.initializers[name].const_value.numpy().tobytes() == expected.tobytes()
    assert [node.op_type for node in again.graph] == ["MatMul"] * 3
    assert PACKED not in again.metadata_props


def test_dense_and_small_weights_and_old_opsets_stay():
    assert pack(model_of(weight(1.0, (61, 37)))) == []
    assert pack(model_of(weight(0.1, (10, 10)))) == []
    model = model_of(weight(0.1, (61, 37)), opset=17)
    assert pack(model) == []
    assert PACKED not in model.metadata_props


def test_what_onnxruntime_would_not_fold_stays(monkeypatch):
    monkeypatch.setattr("sparsify.export.packing._FOLDING", 4 * 61 * 37 - 1)
    assert pack(model_of(weight(0.1, (61, 37)))) == []


def test_rounded_values_and_their_error(tmp_path):
    weights = [weight(0.3, (61, 37)), weight(0.05, (37, 40))]
    x = np.random.default_rng(2).standard_normal((3, 61)).astype(np.float32)
    for numbers, bound in (("fp16", 2**-11), ("int8", 0.5 / 127 + 1e-6)):
        model = model_of(*weights)
        found = pack(model, numbers)
        assert all(0 < item["error"] <= bound for item in found)
        output, kinds = run(model, tmp_path / "packed.onnx", x)
        assert kinds == ["MatMul", "MatMul"]
        unpack(model)
        first, second = (model.graph.initializers[name].const_value.numpy() for name in ("w0", "w1"))
        np.testing.assert_allclose(output, x @ first @ second, rtol=1e-4, atol=1e-4)  # another order of summation
        pairs = zip((first, second), weights, strict=True)
        worst = max(np.abs(new - old).max() / np.abs(old).max() for new, old in pairs)
        assert worst == pytest.approx(max(item["error"] for item in found), rel=1e-6)


def damaged(change):
    model = model_of(weight(0.3, (61, 37)), weight(0.05, (37, 40)))
    pack(model)
    change(model)
    return model


def cut(name):
    def change(model):
        value = model.graph.initializers[name]
        value.const_value = ir.tensor(value.const_value.numpy()[:-1], name=name)

    return change


def entry(text):
    return lambda model: model.metadata_props.__setitem__(PACKED, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.metadata_props.clear(), "No weight of this model is packed"),
        (entry("{"), "cannot be read"),
        (entry(json.dumps({"layout": 2, "tensors": {}})), "layout 2, and this sparsify knows layouts up to 1"),
        (entry(json.dumps({"layout": 1, "tensors": {"w7": "gaps"}})), "w7 is not in the graph"),
        (entry(json.dumps({"layout": 1, "tensors": {"w0": "zip"}})), "'zip', which is not a layout"),
        (entry(json.dumps({"layout": 1, "tensors": {"w0": "gaps"}})), r"w0\.gaps is missing"),
        (cut("w0.values"), "do not fit"),
        (cut("w1.gaps"), "do not fit"),
        (cut("w0.bitmask"), "do not fit"),
    ],
)
def test_damaged_files_are_noticed(change, message):
    with pytest.raises(InputError, match=message):
        unpack(damaged(change))


def test_absurd_shapes_are_refused():
    def change(model):
        model.graph.initializers["w0.shape"].const_value = ir.tensor(np.array([1 << 40, 8]), name="w0.shape")

    with pytest.raises(InputError, match="no type or shape that is packed"):
        unpack(damaged(change))
