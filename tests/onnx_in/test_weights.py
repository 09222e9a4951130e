import numpy as np
import pytest
from helpers.onnx_files import model_of, rand, save
from onnx import helper

from sparsify.onnx_in.graph import graph_of
from sparsify.onnx_in.reading import read_model
from sparsify.onnx_in.weights import BUFFERS, identifiers, state_names, weights_of

X = {"x": (1, ["batch", 3, 4, 4])}
node = helper.make_node


def graph(tmp_path, nodes, constants, outputs=("y",), **metadata):
    model = model_of(nodes, X, list(outputs), constants)
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key.replace("_", "."), value
    return graph_of(read_model(save(model, tmp_path / "model.onnx")))


def test_arrays_of_floats_are_trained_and_nothing_else(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Mul", ["a", "half"], ["b"]),
        node("Mul", ["b", "one_number"], ["c"]),
        node("Add", ["c", "mask"], ["d"]),
        node("Reshape", ["d", "sizes"], ["e"]),
        node("Clip", ["e", "low"], ["f"]),
        node("PRelu", ["f", "slope"], ["g"]),
        node("Add", ["g", "position"], ["y"]),
    ]
    constants = {
        "w": rand(3, 3, 1, 1), "half": np.array(0.5, np.float32), "one_number": np.array([2.0], np.float32),
        "mask": np.array([0, -np.inf, 0, 0], np.float32), "sizes": np.array([-1, 48]), "low": np.array(0.0, np.float32),
        "slope": np.array([0.1], np.float32), "position": rand(48),
    }  # fmt: skip
    assert weights_of(graph(tmp_path, nodes, constants)) == {"w", "slope", "position"}


def test_a_huge_number_stands_for_minus_infinity(tmp_path):
    mask = np.array([0, np.finfo(np.float32).min, 0, 0], np.float32)
    assert weights_of(graph(tmp_path, [node("Add", ["x", "mask"], ["y"])], {"mask": mask})) == set()


def test_statistics_are_not_trained_however_they_reach_the_norm(tmp_path):
    nodes = [
        node("Tile", ["mean", "times"], ["m"]),
        node("BatchNormalization", ["x", "scale", "shift", "m", "variance"], ["y"]),
    ]
    constants = {name: np.abs(rand(3)) + 0.5 for name in ("mean", "scale", "shift", "variance")} | {
        "times": np.array([1])
    }
    assert weights_of(graph(tmp_path, nodes, constants)) == {"scale", "shift"}


@pytest.mark.parametrize(("entry", "left"), [('["table"]', {"w"}), ("not json", {"w", "table"}), ("3", {"w", "table"})])
def test_a_file_of_sparsify_says_what_is_not_trained(entry, left, tmp_path):
    nodes = [node("Mul", ["x", "table"], ["a"]), node("Add", ["a", "w"], ["y"])]
    found = graph(tmp_path, nodes, {"w": rand(4), "table": rand(4)}, **{BUFFERS: entry})
    assert weights_of(found) == left


def test_names_become_arguments():
    names = ["x", "input.1", "input:1", "0", "class", "data/0", "überall", "..."]
    assert list(identifiers(names).values()) == [
        "x",
        "input_1",
        "input_1_1",
        "input_0",
        "input_class",
        "data_0",
        "berall",
        "input",
    ]


def names(tmp_path, constant, step="", operator="MatMul"):
    array = rand(4, 4) if operator == "MatMul" else rand(3)
    found = graph(tmp_path, [node(operator, ["x", constant], ["y"], name=step)], {constant: array})
    return state_names(found, [constant])[constant]


@pytest.mark.parametrize(
    ("constant", "expected"),
    [("encoder.layer.0.weight", "encoder.layer.0.weight"), ("conv/kernel:0", "conv_kernel_0"), ("a..b", "a.b"),
     ("training", "training_"), ("block.half", "block.half_"), ("val_83", "constant_83"), ("оннх", "constant"),
     ("0", "0")],
)  # fmt: skip
def test_weights_keep_their_names_as_far_as_python_allows(constant, expected, tmp_path):
    assert names(tmp_path, constant) == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [("/bert/encoder/layer.0/query/MatMul", "bert.encoder.layer.0.query.weight"), ("MatMul_7", "onnx_MatMul_12"),
     ("/layer1/layer1.0/conv/MatMul", "layer1.0.conv.weight")],
)  # fmt: skip
def test_a_name_that_an_exporter_made_up_gives_way_to_that_of_the_layer(step, expected, tmp_path):
    assert names(tmp_path, "onnx::MatMul_12", step) == expected


def test_names_do_not_get_into_each_others_way(tmp_path):
    constants = {name: rand(4) for name in ("a", "a.b", "a.b.c", "c:d", "c/d")}
    nodes, last = [], "x"
    for name in constants:
        nodes.append(node("Add", [last, name], [f"{name}_out"]))
        last = f"{name}_out"
    found = state_names(graph(tmp_path, nodes, constants, [last]), constants)
    assert list(found.values()) == ["a", "a_b_", "a_b_c_", "c_d", "c_d_1"]
