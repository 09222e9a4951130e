import numpy as np
import pytest
import torch
from helpers.onnx_files import imported, model_of, one, rand, run
from onnx import TensorProto, helper

from sparsify.errors import InputError

X = ["batch", 3, 4, 6]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("wanted", [[-1, 72], [0, 12, 6], [0, 0, -1], [-1, 3, 24], [-1, 2, 3, 12]])
def test_reshape(wanted, path):
    run("Reshape", [X, np.array(wanted)], path)


@pytest.mark.parametrize("axis", [0, 1, 2, 4, -1, -2])
def test_flatten(axis, path):
    run("Flatten", [X], path, axis=axis)


@pytest.mark.parametrize("perm", [None, [0, 2, 3, 1], [3, 0, 1, 2]])
def test_transpose(perm, path):
    run("Transpose", [X], path, **({} if perm is None else {"perm": perm}))


@pytest.mark.parametrize("opset", [11, 13, 21])
@pytest.mark.parametrize("operator", ["Squeeze", "Unsqueeze"])
@pytest.mark.parametrize("axes", [[1], [-1, 1], [3]])
def test_squeeze_and_unsqueeze(operator, axes, opset, path):
    shape = ["batch", 1, 4, 1] if operator == "Squeeze" else ["batch", 4, 5]
    if opset < 13:
        run(operator, [shape], path, opset=opset, axes=axes)
    else:
        run(operator, [shape, np.array(axes)], path, opset=opset)


def test_squeeze_of_all_that_is_one(path):
    run("Squeeze", [[2, 1, 4, 1]], path)


def test_concat(path):
    run("Concat", [["batch", 3], ["batch", 4]], path, axis=1)
    run("Concat", [["batch", 3], ["batch", 4]], path, axis=-1)


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_split_into_parts_of_given_sizes(opset, path):
    if opset == 11:
        run("Split", [X], path, opset=opset, outputs=2, axis=2, split=[1, 3])
    else:
        run("Split", [X, np.array([1, 3])], path, opset=opset, outputs=2, axis=2)


@pytest.mark.parametrize(("opset", "axis", "count"), [(11, 3, 3), (13, -1, 2), (18, 3, 2)])
def test_split_into_equal_parts(opset, axis, count, path):
    more = {"num_outputs": count} if opset == 18 else {}
    run("Split", [X], path, opset=opset, outputs=count, axis=axis, **more)


def test_the_last_part_may_be_smaller(path):
    found = one("Split", [["batch", 7]], path, opset=18, outputs=3, axis=1, num_outputs=3)
    assert [value.shape[1] for value in found.module()(torch.ones(2, 7)).values()] == [3, 3, 1]


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [([1], [3], [1], None), ([0, 1], [2, 2**62], [2, 3], None), ([-3], [-1], [3], None), ([0], [6], [3], [2]),
     ([-1], [-(2**62)], [3], [-1]), ([4], [0], [-1], [-2]), ([5], [1], [3], [-1]), ([0, 0, 1], [1, 2, 9], None, None)],
)  # fmt: skip
def test_slice(starts, ends, axes, steps, path):
    more = [None if value is None else np.array(value) for value in (axes, steps)]
    run("Slice", [X, np.array(starts), np.array(ends), *more], path)


@pytest.mark.parametrize("wanted", [[3, 1, 6], [2, 3, 4, 6], [1], [5, 1, 3, 4, 6]])
def test_expand(wanted, path):
    given = {1: X, 5: [3, 4, 6]}.get(wanted[0], [3, 1, 6])
    run("Expand", [given, np.array(wanted)],
        path)  # fmt: skip


def test_tile(path):
    run("Tile", [X, np.array([1, 2, 1, 3])], path)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 2, 1], [0, 0, 0, 1, 0, 0, 0, 0]])
def test_pad(mode, pads, path):
    run("Pad", [X, np.array(pads)], path, mode=mode)


def test_pad_with_a_value_along_some_axes_and_with_negative_sizes(path):
    run("Pad", [X, np.array([1, 2]), np.array(3.5, np.float32), np.array([1])], path, opset=18)
    run("Pad", [X, np.array([0, 1, -1, 0, 0, 0, 0, -2])], path)
    run("Pad", [X, np.array([0, 0, 2, 1, 0, 0, 1, 2])], path, opset=19, mode="wrap")


def test_channels_cannot_be_reflected(path):
    with pytest.raises(InputError, match="behind channels"):
        run("Pad", [X, np.array([0, 1, 0, 0, 0, 0, 0, 0])], path, mode="reflect")


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode, path):
    run("DepthToSpace", [["batch", 8, 3, 5]], path, blocksize=2, mode=mode)


def test_space_to_depth(path):
    run("SpaceToDepth", [X], path, blocksize=2)


@pytest.mark.parametrize(("upper", "k"), [(1, 0), (0, 0), (1, 1), (0, -1)])
def test_trilu(upper, k, path):
    run("Trilu", [X, np.array(k)], path, upper=upper)
    run("Trilu", [X], path, upper=upper)


def test_eye_like(path):
    run("EyeLike", [[3, 4]], path, k=1, dtype=TensorProto.INT64)


def nodes_of_sizes():
    make = helper.make_node
    return [
        make("Shape", ["x"], ["shape"]),
        make("Gather", ["shape", "zero"], ["batch"], axis=0),
        make("Unsqueeze", ["batch", "axis"], ["batch1"]),
        make("Concat", ["batch1", "rest"], ["wanted"], axis=0),
    ]


@pytest.mark.parametrize("last", ["Reshape", "Expand", "ConstantOfShape", "Range"])
def test_a_shape_that_is_computed_keeps_the_batch_open(last, path):
    nodes, outputs = nodes_of_sizes(), ["y"]
    if last == "ConstantOfShape":
        nodes += [helper.make_node(last, ["wanted"], ["ones"], value=helper.make_tensor("v", 1, [1], [2.0])),
                  helper.make_node("Reshape", ["x", "wanted"], ["x2"]), helper.make_node("Add", ["x2", "ones"],
                      ["y"])]  # fmt: skip
    elif last == "Range":
        nodes += [
            helper.make_node(last, ["zero", "batch", "one"], ["count"]),
            helper.make_node("Cast", ["count"], ["y"], to=1),
        ]
    else:
        nodes += [helper.make_node(last, ["x" if last == "Reshape" else "table", "wanted"], ["y"])]
    constants = {
        "zero": np.array(0),
        "one": np.array(1),
        "axis": np.array([0]),
        "rest": np.array([4, 3]),
        "table": rand(1, 4, 3),
    }
    found = imported(model_of(nodes, {"x": (1, ["batch", 12])}, outputs, constants), path)
    assert found.dynamic_batch
    assert len(found.module()(torch.ones(5, 12))) == 5


def test_an_absurd_constant_is_refused(path):
    nodes = [helper.make_node("ConstantOfShape", ["sizes"], ["c"]), helper.make_node("ReduceSum", ["c"], ["s"]),
             helper.make_node("Add", ["x", "s"], ["y"])]  # fmt: skip
    with pytest.raises(InputError, match="makes a constant of 1000000x1000000"):
        imported(model_of(nodes, {"x": (1, ["batch", 2])}, ["y"], {"sizes": np.array([10**6, 10**6])}), path)


def test_an_absurd_value_is_refused(path):
    nodes = [helper.make_node("Unsqueeze", ["x", "axis"], ["c"]), helper.make_node("Tile", ["c", "times"], ["d"]),
             helper.make_node("ReduceSum", ["d"], ["y"])]  # fmt: skip
    constants = {"axis": np.array([1]), "times": np.array([1, 10**6, 10**6])}
    with pytest.raises(InputError, match="makes a value of 2x1000000x2000000"):
        imported(model_of(nodes, {"x": (1, ["batch", 2])}, ["y"], constants), path)


def test_sizes_that_depend_on_values_are_refused(path):
    nodes = [helper.make_node("Cast", ["x"], ["n"], to=7), helper.make_node("Expand", ["c", "n"], ["y"])]
    with pytest.raises(InputError, match="Expand 'y' cannot be read: its input 1 depends on values"):
        imported(model_of(nodes, {"x": (1, [2])}, ["y"], {"c": rand(1, 1)}), path)
