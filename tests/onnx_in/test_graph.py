import numpy as np
import pytest
import torch
from helpers.onnx_files import imported, model_of, rand, save
from onnx import TensorProto, helper

from sparsify.errors import InputError
from sparsify.onnx_in.graph import Input, graph_of, torch_type
from sparsify.onnx_in.reading import read_model


def graph(model, tmp_path):
    return graph_of(read_model(save(model, tmp_path / "model.onnx")))


def test_a_graph_is_plain_data(tmp_path):
    nodes = [
        helper.make_node("Constant", [], ["axes"], value_ints=[1, 2]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Clip", ["same", "", "high"], ["y"], name="cut"),
    ]
    inputs = {"x": (1, ["batch", 4, None]), "n": (TensorProto.INT64, [3])}
    found = graph(model_of(nodes, inputs, ["y"], {"high": np.array(6, np.float32)}), tmp_path)
    assert found.inputs == (Input("x", torch.float32, ("batch", 4, None)), Input("n", torch.int64, (3,)))
    assert [(step.type, step.name, step.inputs, step.outputs) for step in found.steps] == [
        ("Clip", "cut", ("x", None, "high"), ("y",))
    ]
    assert found.constants["axes"].tolist() == [1, 2]
    assert (found.opset, found.outputs, found.uses()["x"]) == (17, ("y",), 1)


@pytest.mark.parametrize("shape", [[0, 4], [-3, 4]])
def test_inputs_need_sizes(shape, tmp_path):
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, shape)}, ["y"])
    with pytest.raises(InputError, match="every size must be at least 1"):
        imported(model, tmp_path / "model.onnx")


def test_an_input_without_a_shape_is_refused(tmp_path):
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, None)}, ["y"])
    with pytest.raises(InputError, match="'x' has no type and shape"):
        imported(model, tmp_path / "model.onnx")


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.BFLOAT16, TensorProto.COMPLEX64])
def test_an_input_of_a_type_that_is_not_read_is_refused(kind, tmp_path):
    model = model_of([helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, [2])}, ["y"])
    with pytest.raises(InputError, match=r"model.onnx: the input 'x' is of the type"):
        imported(model, tmp_path / "model.onnx")


def test_types():
    assert torch_type(10, "it") == torch.float16
    with pytest.raises(InputError, match="it is of the type 999"):
        torch_type(999, "it")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("value_float", 2.5, 2.5), ("value_int", 3, 3), ("value_floats", [1.0, 2.0], [1.0, 2.0])],
)
def test_constants_of_every_form(name, value, expected, tmp_path):
    nodes = [helper.make_node("Constant", [], ["c"], **{name: value}), helper.make_node("Identity", ["c"], ["y"])]
    assert graph(model_of(nodes, {"x": (1, [1])}, ["y"]), tmp_path).constants["c"].tolist() == expected


def test_a_constant_of_text_is_refused(tmp_path):
    nodes = [helper.make_node("Constant", [], ["c"], value_string="run me"), helper.make_node("Identity", ["c"], ["y"])]
    with pytest.raises(InputError, match="given as value_string"):
        graph(model_of(nodes, {"x": (1, [1])}, ["y"], {"w": rand(2)}), tmp_path)


@pytest.mark.parametrize(("values", "names"), [(np.zeros(4, np.float32), {"a", "b"}), (rand(4), {"a"})])
def test_equal_vectors_that_an_exporter_stored_once_are_not_tied_and_shared_ones_are(values, names, tmp_path):
    nodes = [
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Add", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["y"]),
    ]
    program = imported(model_of(nodes, {"x": (1, ["n", 4])}, ["y"], {"a": values}), tmp_path / "model.onnx")
    assert set(program.parameters) == names
