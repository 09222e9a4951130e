import numpy as np
import pytest
from helpers.onnx_files import one, run

from sparsify.errors import InputError

X = ["batch", 2, 5, 6]
EMPTY = np.array([], np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("scales", [(1, 1, 2, 2), (1, 1, 1.5, 0.7), (1, 1, 1, 3)])
@pytest.mark.parametrize("opset", [11, 19])
def test_by_scales(mode, coordinates, scales, opset, path):
    run("Resize", [X, EMPTY if opset == 11 else None, np.array(scales, np.float32)], path, opset=opset, mode=mode,
        coordinate_transformation_mode=coordinates)  # fmt: skip


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [(2, 2, 10, 12), (2, 2, 7, 3), (2, 2, 1, 1)])
def test_by_sizes(mode, sizes, path):
    run("Resize", [[2, 2, 5, 6], None, None, np.array(sizes)], path, opset=13, mode=mode)


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel"])
def test_nearest_rounds_as_it_is_told(rounding, coordinates, path):
    run("Resize", [X, None, np.array([1, 1, 2, 2.5], np.float32)], path, mode="nearest", nearest_mode=rounding,
        coordinate_transformation_mode=coordinates)  # fmt: skip


def test_common_forms_are_torchs_own(path):
    for mode, coordinates, target in (("nearest", "asymmetric", "nearest2d"), ("linear", "half_pixel", "bilinear2d")):
        found = one("Resize", [X, None, np.array([1, 1, 2, 2], np.float32)], path, mode=mode, nearest_mode="floor",
                    coordinate_transformation_mode=coordinates)  # fmt: skip
        assert target in str(found)


def test_some_axes(path):
    run("Resize", [X, None, np.array([2.0], np.float32)], path, opset=18, axes=[3], mode="linear")


@pytest.mark.parametrize("outside", [0, 1])
def test_cubic_weights_outside_count_or_not(outside, path):
    run(
        "Resize",
        [X, None, np.array([1, 1, 2, 2], np.float32)],
        path,
        mode="cubic",
        cubic_coeff_a=-0.5,
        exclude_outside=outside,
    )


def test_what_smooths_is_refused(path):
    with pytest.raises(InputError, match="smooths"):
        run("Resize", [X, None, np.array([1, 1, 0.5, 0.5], np.float32)], path, opset=18, mode="linear", antialias=1)
