import numpy as np
import pytest
from helpers.onnx_files import one, rand, run

X = ["batch", 3, 4]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    "operator",
    ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
     "ReduceSumSquare"],
)  # fmt: skip
@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("keep", [0, 1])
def test_axes_are_an_attribute_or_an_input(operator, opset, keep, path):
    as_input = opset >= 18 or (opset == 13 and operator == "ReduceSum")
    axes = [1, -1]
    if as_input:
        run(operator, [X, np.array(axes)], path, opset=opset, keepdims=keep)
    else:
        run(operator, [X], path, opset=opset, keepdims=keep, axes=axes)


def test_without_axes_all_are_reduced_or_none(path):
    assert one("ReduceSum", [[2, 3]], path, keepdims=0).example.args[0].shape == (2, 3)
    run("ReduceSum", [X], path, noop_with_empty_axes=1)
    run("ReduceLogSum", [[2, 3], np.array([0])], path, opset=18)


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keep", [0, 1])
def test_the_place_of_the_largest(operator, last, keep, path):
    run(operator, [(np.int64, X)], path, axis=1, select_last_index=last, keepdims=keep)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(largest, path):
    assert one("TopK", [["batch", 7], np.array([3])], path, outputs=2, largest=largest).dynamic_batch


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_cumsum(reverse, exclusive, path):
    run("CumSum", [X, np.array(1)], path, reverse=reverse, exclusive=exclusive)


def test_weights_that_are_reduced_are_trained(path):
    found = one("Add", [X, rand(3, 4)], path)
    assert list(found.parameters) == ["in1"]
