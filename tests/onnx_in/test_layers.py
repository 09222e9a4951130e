import numpy as np
import pytest
import torch
from helpers.onnx_files import imported, model_of, rand
from onnx import helper

X = {"x": (1, ["batch", 3, 4])}
node = helper.make_node


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def operators(program):
    return [
        str(n.target).removeprefix("aten.").removesuffix(".default")
        for n in program.graph.nodes
        if n.op == "call_function"
    ]


@pytest.mark.parametrize("first", [True, False])
def test_a_product_and_its_bias_are_one_layer(first, path):
    adds = ["h", "b"] if first else ["b", "h"]
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", adds, ["y"])]
    found = imported(model_of(nodes, X, ["y"], {"w": rand(4, 5), "b": rand(5)}), path)
    assert operators(found) == ["linear"]
    assert np.array_equal(found.parameters["w"].detach().numpy(), rand(4, 5).T)


@pytest.mark.parametrize(
    ("bias", "outputs"), [(rand(3, 5), ["y"]), (rand(5), ["y", "h"]), (np.array([1.0], np.float32), ["y"])]
)
def test_what_is_not_a_bias_is_added(bias, outputs, path):
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])]
    found = imported(model_of(nodes, X, outputs, {"w": rand(4, 5), "b": bias}), path)
    assert operators(found) == ["linear", "add.Tensor"]


def test_a_table_that_is_the_last_layer_too_stays_one_parameter(path):
    nodes = [node("Gather", ["table", "i"], ["e"]), node("Transpose", ["table"], ["t"], perm=[1, 0]),
             node("MatMul", ["e", "t"], ["y"])]  # fmt: skip
    found = imported(model_of(nodes, {"i": (7, ["batch", 3])}, ["y"], {"table": rand(7, 4)}), path)
    assert operators(found) == ["embedding", "linear"]
    assert list(found.parameters) == ["table"]


def test_a_matrix_that_is_read_in_other_ways_keeps_its_form(path):
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "w"], ["y"])]
    found = imported(model_of(nodes, {"x": (1, ["batch", 4, 4])}, ["y"], {"w": rand(4, 4)}), path)
    assert operators(found) == ["matmul", "add.Tensor"]
    assert np.array_equal(found.parameters["w"].detach().numpy(), rand(4, 4))


def test_two_layers_may_share_a_matrix(path):
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "w"], ["y"])]
    found = imported(model_of(nodes, X, ["y"], {"w": rand(4, 4)}), path)
    assert operators(found) == ["linear", "relu", "linear"]
    assert len(found.parameters) == 1


def test_a_layer_is_trained(path):
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])]
    module = imported(model_of(nodes, X, ["y"], {"w": rand(4, 5), "b": rand(5)}), path).module(training=True)
    module(torch.ones(2, 3, 4)).sum().backward()
    assert torch.equal(module.b.grad, torch.full((5,), 6.0))
    assert torch.equal(module.w.grad, torch.full((5, 4), 6.0))


@pytest.mark.parametrize("opset", [11, 17])
def test_a_layer_norm_in_parts_is_right_in_parts(opset, path):
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]), node("Pow", ["d", "two"], ["s"]),
        node("ReduceMean", ["s"], ["v"], axes=[-1]), node("Add", ["v", "eps"], ["e"]), node("Sqrt", ["e"], ["r"]),
        node("Div", ["d", "r"], ["n"]), node("Mul", ["n", "scale"], ["p"]), node("Add", ["p", "shift"], ["y"]),
    ]  # fmt: skip
    constants = {"two": np.array(2, np.float32), "eps": np.array(1e-5, np.float32), "scale": rand(4), "shift": rand(4)}
    found = imported(model_of(nodes, X, ["y"], constants, opset), path)
    x = torch.randn(2, 3, 4)
    expected = torch.nn.functional.layer_norm(x, (4,), found.parameters["scale"], found.parameters["shift"])
    assert torch.allclose(found.module()(x), expected, atol=1e-5)  # the same in another order of rounding
    assert list(found.parameters) == ["scale", "shift"]


@pytest.mark.parametrize("form", ["erf", "tanh"])
def test_gelu_in_parts(form, path):
    half, one = np.array(0.5, np.float32), np.array(1, np.float32)
    if form == "erf":
        nodes = [node("Div", ["x", "root"], ["a"]), node("Erf", ["a"], ["b"]), node("Add", ["b", "one"], ["c"]),
                 node("Mul", ["x", "c"], ["d"]), node("Mul", ["d", "half"], ["y"])]  # fmt: skip
        constants = {"root": np.array(2**0.5, np.float32)}
    else:
        nodes = [node("Pow", ["x", "three"], ["a"]), node("Mul", ["a", "k"], ["b"]), node("Add", ["x", "b"], ["c"]),
                 node("Mul", ["c", "root"], ["d"]), node("Tanh", ["d"], ["e"]), node("Add", ["e", "one"], ["f"]),
                 node("Mul", ["x", "f"], ["g"]), node("Mul", ["g", "half"], ["y"])]  # fmt: skip
        constants = {"three": np.array(3, np.float32), "k": np.array(0.044715, np.float32),
                     "root": np.array((2 / np.pi) ** 0.5, np.float32)}  # fmt: skip
    found = imported(model_of(nodes, X, ["y"], {**constants, "half": half, "one": one}), path)
    x = torch.randn(2, 3, 4)
    approximate = "none" if form == "erf" else "tanh"
    assert torch.allclose(found.module()(x), torch.nn.functional.gelu(x, approximate=approximate), atol=1e-6)
    assert not found.parameters
