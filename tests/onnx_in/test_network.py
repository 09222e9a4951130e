import numpy as np
import pytest
import torch
from helpers.onnx_files import model_of, rand, save
from onnx import helper

from sparsify.errors import InputError
from sparsify.onnx_in.importing import read_onnx
from sparsify.onnx_in.network import OnnxNetwork

node = helper.make_node


@pytest.fixture
def network(tmp_path):
    nodes = [
        node("MatMul", ["input.1", "enc.w"], ["h"]),
        node("Add", ["h", "mask"], ["out:0"]),
        node("Relu", ["h"], ["1"]),
    ]
    constants = {"enc.w": rand(4, 3), "mask": np.array([0, 0, -np.inf], np.float32)}
    model = model_of(nodes, {"input.1": (1, ["batch", 4])}, ["out:0", "1"], constants)
    return read_onnx(save(model, tmp_path / "model.onnx"))


def test_a_file_is_a_module_with_parameters_and_buffers(network):
    assert isinstance(network, OnnxNetwork)
    assert {name: tuple(value.shape) for name, value in network.named_parameters()} == {"enc.w": (3, 4)}
    assert [name for name, _ in network.named_buffers()] == ["mask"]


def test_it_is_called_by_place_or_by_name_and_returns_outputs_by_name(network):
    x = torch.randn(2, 4)
    found = network(x)
    assert list(found) == ["out_0", "input_1"]  # identifiers
    product = x @ torch.from_numpy(rand(4, 3))
    assert torch.allclose(found["input_1"], product.relu(), atol=1e-6)
    assert torch.equal(network(input_1=x)["out_0"], found["out_0"])


def test_it_moves_to_other_types_of_devices_with_its_state(network):
    with torch.device("meta"):
        moved = network.to("meta")
    assert moved(torch.ones(2, 4, device="meta"))["out_0"].shape == (2, 3)


def test_what_depends_on_no_input_is_computed_once(tmp_path):
    nodes = [node("Mul", ["a", "a"], ["b"]), node("Range", ["zero", "four", "one"], ["r"]), node("Cast", ["r"],
        ["f"], to=1),
             node("Add", ["x", "f"], ["h"]), node("Mul", ["h", "b"], ["y"])]  # fmt: skip
    constants = {"a": np.array(3, np.float32), "zero": np.array(0), "four": np.array(4), "one": np.array(1)}
    network = read_onnx(save(model_of(nodes, {"x": (1, ["batch", 4])}, ["y"], constants), tmp_path / "model.onnx"))
    assert [step.type for step in network.onnx.steps] == ["Add", "Mul"]
    assert network(torch.zeros(1, 4)).tolist() == [[0, 9, 18, 27]]
    assert not list(network.parameters())


def test_an_output_may_be_a_constant_or_an_input(tmp_path):
    nodes = [node("Identity", ["x"], ["y"]), node("Identity", ["c"], ["z"])]
    network = read_onnx(save(model_of(nodes, {"x": (1, [2])}, ["y", "z"], {"c": rand(3)}), tmp_path / "model.onnx"))
    found = network(torch.ones(2))
    assert torch.equal(found["z"], torch.from_numpy(rand(3)))
    assert found["y"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("Reshape", ["x", "sizes"], ["y"], name="r")], "Reshape 'r' cannot be read: "),
        ([node("Concat", ["x", "x"], ["y"], name="c", axis=9)], "Concat 'c' cannot be read: Dimension out of range"),
        ([node("Conv", ["x", "sizes"], ["y"], name="v", group=0)], "Conv 'v' cannot be read: "),
        ([node("Transpose", ["x"], ["y"], name="t", perm=[0, 0])], "Transpose 't' cannot be read: "),
        ([node("Softmax", ["x"], ["y"], name="s", axis="one")], "Softmax 's' cannot be read: "),
    ],
)
def test_operators_that_do_not_fit_their_inputs_are_named(nodes, reason, tmp_path):
    model = model_of(nodes, {"x": (1, [2, 3])}, ["y"], {"sizes": np.array([7, 5])})
    network = read_onnx(save(model, tmp_path / "model.onnx"))
    with pytest.raises(InputError, match=reason):
        network.check_sizes({"x": torch.ones(2, 3)})
