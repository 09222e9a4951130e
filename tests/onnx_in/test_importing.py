import numpy as np
import onnxruntime
import pytest
import torch
from helpers.onnx_files import imported, model_of, rand, save
from onnx import TensorProto, helper

import sparsify as sp
from sparsify.errors import InputError
from sparsify.load import load
from sparsify.onnx_in.importing import example_of, read_onnx

INT = TensorProto.INT64
node = helper.make_node


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def text_model(length="length"):
    nodes = [node("Gather", ["table", "ids:0"], ["e"]), node("Mul", ["e", "scale:0"], ["h"]),
             node("MatMul", ["h", "w"], ["logits:0"]), node("ReduceSum", ["h"], ["sums"], keepdims=0)]  # fmt: skip
    inputs = {"ids:0": (INT, ["batch", length]), "scale:0": (1, ["batch", length, 1])}
    return model_of(nodes, inputs, ["logits:0", "sums"], {"table": rand(7, 4), "w": rand(4, 3)})


def test_inputs_and_outputs_are_called_the_same_when_it_is_written_again(path):
    program = imported(text_model(5), path)
    assert [str(n.target) for n in program.placeholders] == ["ids_0", "scale_0"]
    report = sp.export_onnx(program, path.with_name("again.onnx"))
    assert (report["inputs"], report["outputs"]) == (["ids:0", "scale:0"], ["logits:0", "sums"])
    session = onnxruntime.InferenceSession(str(path.with_name("again.onnx")))
    assert [item.name for item in session.get_inputs()] == ["ids:0", "scale:0"]
    assert [item.name for item in session.get_outputs()] == ["logits:0", "sums"]


def test_names_outlive_a_pt2_archive(path):
    program = imported(text_model(5), path)
    sp.save(program, path.with_name("model.pt2"))
    again = load(path.with_name("model.pt2"))
    assert sp.export_onnx(again, path.with_name("again.onnx"))["outputs"] == ["logits:0", "sums"]


def test_a_lone_output_keeps_its_name_too(path):
    nodes = [node("MatMul", ["pixels", "w"], ["scores"])]
    program = imported(model_of(nodes, {"pixels": (1, ["n", 4])}, ["scores"], {"w": rand(4, 3)}), path)
    assert isinstance(program.module()(torch.ones(2, 4)), torch.Tensor)
    assert sp.export_onnx(program, path.with_name("again.onnx"))["outputs"] == ["scores"]


def test_the_example_comes_from_the_file_where_only_the_batch_is_open(path):
    args, kwargs = example_of(read_onnx(save(text_model(5), path)))
    assert args == ()
    assert {name: (tuple(v.shape), v.dtype) for name, v in kwargs.items()} == {
        "ids_0": ((2, 5), torch.int64),
        "scale_0": ((2, 5, 1), torch.float32),
    }
    assert load(path).example.synthetic


def test_another_open_size_needs_inputs_and_stays_open(path):
    save(text_model(), path)
    with pytest.raises(InputError, match="no example inputs"):
        load(path)
    program = load(path, "ids_0:int64[2,5]%7,scale_0:float32[2,5,1]")
    found = program.module()(ids_0=torch.ones(3, 9, dtype=torch.int64), scale_0=torch.ones(3, 9, 1))
    assert found["logits_0"].shape == (3, 9, 3)
    assert not program.notes


def test_inputs_of_a_file_may_have_the_names_of_the_model(path, tmp_path):
    save(text_model(), path)
    np.savez(tmp_path / "in.npz", **{"ids:0": np.ones((2, 4), np.int64), "scale:0": rand(2, 4, 1)})
    program = load(path, str(tmp_path / "in.npz"))
    assert not program.example.synthetic


def test_a_name_with_a_space_is_found_without_it(path):
    nodes = [node("MatMul", ["my image", "w"], ["scores"])]
    model = model_of(nodes, {"my image": (1, ["n", 4])}, ["scores"], {"w": rand(4, 3)})
    program = load(save(model, path), "my image:float32[3,4]")  # spaces of a spec do not count
    assert sp.export_onnx(program, path.with_name("again.onnx"))["inputs"] == ["my image"]


def test_a_model_that_does_not_fit_together_says_so_in_one_line(path, capfd):
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    with pytest.raises(InputError, match="y"):
        load(save(model_of(nodes, {"x": (1, ["n", 4])}, ["y"], {"w": rand(5, 4)}), path))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            "ids:int64[2,5],scale_0:float32[2,5,1]",
            r"does not have the input 'ids'. Its inputs are ids_0:int64\[batch,length\]",
        ),
        ("ids_0:int64[2,5]", "needs scale_0, too"),
        ("int64[2,5],float32[2,5,1],2x2", "gets 3 inputs"),
        ("int64[2,5],2x5x1,ids_0:int64[2,5]", "gets ids_0 twice"),
        (
            "ids_0:int64[2,5],scale_0:float32[2,5,3]",
            r"scale_0 is float32\[batch,length,1\] in the file, and float32 2x5x3",
        ),
        ("ids_0:int32[2,5],scale_0:float32[2,5,1]", "and int32 2x5 was given"),
        ("ids_0:int64[2,5,1],scale_0:float32[2,5,1]", "and int64 2x5x1 was given"),
        ("ids_0:int64[2,5],scale_0:float32[3,4,1]", "Gather|Mul 'h' cannot be read"),
    ],
)
def test_wrong_inputs_are_refused(spec, reason, path):
    save(text_model(), path)
    with pytest.raises(InputError, match=reason):
        load(path, spec)


def test_a_fixed_batch_is_noted_by_the_program(path):
    program = imported(
        model_of([node("MatMul", ["x", "w"], ["y"])], {"x": (1, [1, 4])}, ["y"], {"w": rand(4, 3)}), path
    )
    assert not program.dynamic_batch
    assert program.example.args[0].shape == (1, 4)


def test_an_open_batch_that_the_graph_fixes_is_noted(path):
    nodes = [node("Reshape", ["x", "sizes"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    model = model_of(nodes, {"x": (1, ["batch", 4])}, ["y"], {"w": rand(4, 3), "sizes": np.array([2, 4])})
    program = imported(model, path)
    assert not program.dynamic_batch
    assert "fixes its batch size" in program.notes[0]


def test_what_onnxruntime_does_not_compute_the_same_is_refused(path, monkeypatch):
    from sparsify.onnx_in.op import RULES

    monkeypatch.setitem(RULES, "Relu", lambda op: op.tensor(0))
    with pytest.raises(InputError, match="another 'y' than onnxruntime"):
        imported(model_of([node("Relu", ["x"], ["y"])], {"x": (1, [2, 4])}, ["y"]), path)


def test_training_it_learns(path):
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Tanh", ["h"], ["y"])]
    module = imported(model_of(nodes, {"x": (1, ["n", 4])}, ["y"], {"w": rand(4, 3)}), path).module(training=True)
    x = torch.randn(8, 4)
    before = float(module(x).square().mean())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
    assert float(module(x).square().mean()) < before
