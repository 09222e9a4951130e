"""The command on ONNX files: good ones, and ones that somebody sends."""

import json

import numpy as np
import onnx
import pytest
from helpers.command import measure_briefly, sparsify, write_model
from helpers.onnx_files import model_of, rand, save
from onnx import TensorProto, helper

import sparsify as sp

X = {"x": (1, ["batch", 4])}
node = helper.make_node


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measure_briefly(monkeypatch)
    return tmp_path


def test_an_onnx_file_is_pruned_and_written_as_one(folder):
    write_model(folder)
    sp.export_onnx(sp.load("model.pt2"), "model.onnx", storage="packed")
    ran = sparsify("model.onnx", "--pass", "layer-prune:count=1", "--pass", "weight-prune:sparsity=0.5",
                   "--retrain", "fine-tune:steps=2it", "--task", "digits", "-o", "small.onnx", "--json")  # fmt: skip
    assert (ran.status, ran.err) == (0, "")
    report = json.loads(ran.out)
    assert report["passes"][0]["removed"]
    before, after = (onnx.load(name).graph for name in ("model.onnx", "small.onnx"))
    assert [item.name for item in before.input] == [item.name for item in after.input]
    assert [item.name for item in before.output] == [item.name for item in after.output]


def test_a_packed_file_is_read_with_its_zeros(folder):
    save(
        model_of([node("MatMul", ["x", "w"], ["y"])], {"x": (1, ["n", 64])}, ["y"], {"w": rand(64, 64)}),
        folder / "m.onnx",
    )
    assert sparsify("m.onnx", "--pass", "weight-prune:sparsity=0.9", "-o", "p.onnx", "--storage", "packed").status == 0
    assert "ScatterElements" in {item.op_type for item in onnx.load("p.onnx").graph.node}
    weight = sp.load("p.onnx").parameters["w"]
    assert weight.shape == (64, 64)
    assert int((weight == 0).sum()) == round(0.9 * 64 * 64)


def test_inspect_reads_onnx(folder):
    nodes = [node("MatMul", ["x", "a"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "b"], ["y"])]
    save(model_of(nodes, X, ["y"], {"a": rand(4, 6), "b": rand(6, 2)}), folder / "m.onnx")
    ran = sparsify("inspect", "m.onnx", "--json")
    assert ran.status == 0
    assert [group["size"] for group in json.loads(ran.out)["groups"] if not group["frozen"]] == [6]


def external(location):
    model = model_of([node("MatMul", ["x", "w"], ["y"])], X, ["y"], {"w": rand(4, 3)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model


def absurd():
    model = model_of([node("MatMul", ["x", "w"], ["y"])], X, ["y"], {"w": rand(4, 3)})
    model.graph.initializer[0].dims[:] = [10**6, 10**6]
    return model


HOSTILE = {
    "traversal": (lambda: external("../../etc/passwd"), "outside the folder"),
    "absolute": (lambda: external("/etc/passwd"), "outside the folder"),
    "cyclic": (lambda: model_of([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])], X, ["b"]),
    "waits for its own"),
    "absurd": (absurd, "takes 4000000000000 bytes; there are 48"),
    "future": (lambda: model_of([node("Relu", ["x"], ["y"])], X, ["y"], opset=77), "uses opset 77"),
    "foreign": (lambda: model_of([node("Gelu", ["x"], ["y"], domain="com.microsoft")], X, ["y"]),
    "com.microsoft::Gelu"),
    "grows": (lambda: model_of([node("Expand", ["x", "s"], ["h"]), node("ReduceSum", ["h"], ["y"])], X, ["y"],
                               {"s": np.array([10**6, 10**6, 1, 1])}), "makes a value of"),
    "tiles": (lambda: model_of([node("Tile", ["x", "s"], ["y"])], X, ["y"], {"s": np.array([10**6, 10**6])}),
    "makes a value of"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused_and_nothing_is_written(what, folder):
    make, reason = HOSTILE[what]
    save(make(), folder / "bad.onnx")
    ran = sparsify("bad.onnx", "--pass", "weight-prune:sparsity=0.5", "-o", "out.onnx", "--report", "out.json")
    assert ran.status == 2
    assert reason in " ".join(ran.err.split())
    assert "Traceback" not in ran.err
    assert sorted(path.name for path in folder.iterdir()) == ["bad.onnx"]


def test_a_truncated_file_is_refused(folder):
    whole = save(model_of([node("MatMul", ["x", "w"], ["y"])], X, ["y"], {"w": rand(4, 3)}), folder / "bad.onnx")
    whole.write_bytes(whole.read_bytes()[:100])
    ran = sparsify("bad.onnx", "--pass", "weight-prune:sparsity=0.5", "-o", "out.onnx")
    assert (ran.status, sorted(path.name for path in folder.iterdir())) == (2, ["bad.onnx"])
    assert "damaged or incomplete ONNX file" in " ".join(ran.err.split())


def test_wrong_input_names_are_refused(folder):
    save(model_of([node("MatMul", ["x", "w"], ["y"])], X, ["y"], {"w": rand(4, 3)}), folder / "m.onnx")
    ran = sparsify("m.onnx", "--inputs", "pixels:2x4", "--pass", "weight-prune:sparsity=0.5", "-o", "out.onnx")
    assert ran.status == 2
    assert "does not have the input 'pixels'. Its inputs are x:float32[batch,4]" in " ".join(ran.err.split())
    assert sorted(path.name for path in folder.iterdir()) == ["m.onnx"]
