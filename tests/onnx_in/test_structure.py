import pytest
from helpers.onnx_files import model_of, rand, save
from onnx import helper, numpy_helper

from sparsify.errors import InputError
from sparsify.onnx_in.reading import read_model
from sparsify.onnx_in.structure import expanded_size

X = {"x": (1, ["batch", 4])}
node = helper.make_node


@pytest.mark.parametrize(
    ("nodes", "outputs", "reason"),
    [
        ([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])], ["b"], "waits for its own result"),
        ([node("Add", ["x", "y"], ["y"], name="own")], ["y"], "Add 'own' waits for its own result"),
        ([node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])], ["y"], "two nodes make 'y'"),
        ([node("Relu", ["gone"], ["y"])], ["y"], "Relu reads 'gone', which nothing makes"),
        ([node("Relu", ["x"], ["y"])], ["z"], "The output reads 'z', which nothing makes"),
        ([node("Relu", ["x"], ["x"])], ["x"], "'x' is given to two values"),
        ([node("Relu", ["x"], ["w"])], ["w"], "'w' is given to two values"),
        ([node("Relu", ["x"], ["y"])], ["y", "y"], "'y' is given to two values"),
    ],
)
def test_graphs_that_contradict_themselves_are_refused(nodes, outputs, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        read_model(save(model_of(nodes, X, outputs, {"w": rand(4)}), tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (node("MatMul", ["x"], ["y"], name="own"), "MatMul 'own' has 1 inputs; it takes 2."),
        (node("Relu", ["x", "x"], ["y"]), "has 2 inputs; it takes 1"),
        (node("Conv", ["x"], ["y"]), "has 1 inputs; it takes 2 to 3"),
        (node("Concat", [], ["y"], axis=0), "has 0 inputs; it takes 1 or more"),
        (node("Relu", ["x"], ["y", "z"]), "has 2 outputs; it gives 1"),
        (node("Gemm", ["x", ""], ["y"]), "lacks its input B"),
        (node("Relu", ["x"], ["y"], bogus=3), "has the attribute 'bogus', which opset"),
        (node("Concat", ["x", "x"], ["y"]), "lacks its attribute axis"),
    ],
)
def test_operators_that_their_definition_does_not_allow_are_refused(made, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        read_model(save(model_of([made], X, ["y"], {"w": rand(4)}), tmp_path / "model.onnx"))


def test_two_constants_of_the_same_name_are_refused(tmp_path):
    model = model_of([node("Add", ["x", "w"], ["y"])], X, ["y"], {"w": rand(4)})
    model.graph.initializer.append(numpy_helper.from_array(rand(4), "w"))
    with pytest.raises(InputError, match="'w' is given to two values"):
        read_model(save(model, tmp_path / "model.onnx"))


def test_an_old_file_lists_its_weights_among_the_inputs(tmp_path):
    model = model_of([node("Add", ["x", "w"], ["y"])], {**X, "w": (1, [4])}, ["y"], {"w": rand(4)})
    read_model(save(model, tmp_path / "model.onnx"))


def test_the_size_behind_functions_is_counted(tmp_path):
    model = model_of([node("F", ["x"], ["a"], domain="m"), node("F", ["a"], ["y"], domain="m")], X, ["y"])
    body = [node("Relu", ["a"], ["c"]), node("Abs", ["c"], ["b"])]
    model.functions.append(helper.make_function("m", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    assert expanded_size(model, tmp_path) == 4
