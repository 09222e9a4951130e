import pytest
from helpers.onnx_files import run

from sparsify.errors import InputError

SPACE = {1: [9], 2: [9, 8], 3: [6, 7, 5]}
ATTRIBUTES = [
    {}, {"strides": 2}, {"pads": 1, "strides": 2}, {"ceil_mode": 1, "strides": 2}, {"uneven": True, "strides": 2},
    {"auto_pad": "SAME_UPPER", "strides": 2}, {"auto_pad": "SAME_LOWER", "strides": 2}, {"auto_pad": "VALID",
    "strides": 2},
    {"ceil_mode": 1, "strides": 2, "pads": 1},
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def given(dims, attributes):
    found = {"kernel_shape": [3] * dims, **attributes}
    for name, count in (("strides", dims), ("dilations", dims), ("pads", 2 * dims)):
        if name in found:
            found[name] = [found[name]] * count
    if found.pop("uneven", False):
        found["pads"] = [0, 1, 0, 1, 0, 1][: 2 * dims]
    return found


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("attributes", [*ATTRIBUTES, {"dilations": 2}])
def test_max_pool(dims, attributes, path):
    run("MaxPool", [["batch", 2, *SPACE[dims]]], path, **given(dims, attributes))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("attributes", ATTRIBUTES)
def test_average_pool(dims, counted, attributes, path):
    run(
        "AveragePool",
        [["batch", 2, *SPACE[dims]]],
        path,
        count_include_pad=counted,
        opset=19,
        **given(dims, attributes),
    )


def test_indices_are_refused(path):
    with pytest.raises(InputError, match="further output"):
        run("MaxPool", [["batch", 2, 6, 6]], path, outputs=2, kernel_shape=[2, 2])


def test_dilated_averages_are_refused(path):
    with pytest.raises(InputError, match="dilated"):
        run("AveragePool", [["batch", 2, 9, 9]], path, opset=19, kernel_shape=[2, 2], dilations=[2, 2])


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(p, path):
    run("LpPool", [["batch", 2, 6, 6]], path, opset=18, kernel_shape=[2, 3], strides=[2, 1], p=p)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(operator, path):
    run(operator, [["batch", 3, 4, 5]], path)
