import numpy as np
import pytest
import torch
from helpers.onnx_files import imported, model_of, one, rand, run
from onnx import helper

from sparsify.errors import InputError

X = ["batch", 3, 4]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("index", [np.array(1), np.array(-1), np.array([2, 0]), np.array([[0, 1], [-2, 2]])])
def test_gather_along_an_axis(axis, index, path):
    run("Gather", [X, index], path, axis=axis)


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_a_table_of_weights_is_an_embedding(kind, path):
    found = one("Gather", [rand(7, 4), (kind, ["batch", 5])], path)
    assert [str(node.target) for node in found.graph.nodes if "embedding" in str(node.target)] == [
        "aten.embedding.default"
    ]
    assert list(found.parameters) == ["in0"]


def test_places_that_are_computed_count_from_the_end_when_negative(path):
    nodes = [helper.make_node("Sub", ["i", "two"], ["j"]), helper.make_node("Gather", ["x", "j"], ["y"], axis=1)]
    found = imported(model_of(nodes, {"x": (1, X), "i": (7, [3])}, ["y"], {"two": np.array(2)}), path)
    x = torch.randn(2, 3, 4)
    assert torch.equal(found.module()(x=x, i=torch.tensor([0, 1, 2])), x[:, [-2, -1, 0]])


def test_single_values(path):
    run("GatherElements", [[3, 4], np.array([[0, -1], [1, 2], [3, 0]])], path, axis=1)


@pytest.mark.parametrize(
    ("shape", "index", "shared"),
    [([3, 4], [[0, 1], [2, 3]], 0), ([3, 4, 5], [[[0], [2]]], 0), ([2, 3, 4], [[[1], [0]], [[2], [2]]], 1),
    ([3, 4], [[-1, -2]], 0)],
)  # fmt: skip
def test_slices_at_several_indices(shape, index, shared, path):
    run("GatherND", [shape, np.array(index)], path, batch_dims=shared)


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter_slices(reduction, path):
    run("ScatterND", [[4, 3], np.array([[1], [3], [-4]]), [3, 3]], path, opset=18, reduction=reduction)


def test_other_reductions_are_refused(path):
    with pytest.raises(InputError, match="'max'; sparsify reads none and add"):
        run("ScatterND", [[4, 3], np.array([[1]]), [1, 3]], path, opset=18, reduction="max")


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_single_values(reduction, path):
    run("ScatterElements", [[4, 3], np.array([[1, 2, 0]]), [1, 3]], path, opset=18, reduction=reduction)


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_one_hot(axis, path):
    found = one("OneHot", [(np.int64, ["batch", 3]), np.array(4), np.array([0.5, 2.0], np.float32)], path, axis=axis)
    assert not found.parameters
