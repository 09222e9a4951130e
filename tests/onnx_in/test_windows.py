import pytest
import torch

from sparsify.errors import InputError
from sparsify.onnx_in.graph import Step
from sparsify.onnx_in.op import Op
from sparsify.onnx_in.windows import Windows, split_padding

X = torch.ones(1, 1, 5, 6)


def windows(kernel=(3, 3), **attributes):
    return Windows.of(Op(Step("Conv", "c", ("x",), ("y",), attributes), [X], opset=17), X, list(kernel))


@pytest.mark.parametrize(("mode", "expected"), [("SAME_UPPER", [0, 1, 1, 2]), ("SAME_LOWER", [1, 2, 0, 1])])
def test_the_odd_one_goes_to_one_end(mode, expected):
    assert split_padding([1, 3], mode) == expected


def test_padding_that_keeps_the_size():
    found = windows(auto_pad="SAME_UPPER", strides=[2, 2])
    assert (found.begin, found.end) == ([1, 0], [1, 1])  # ceil(5 / 2) and ceil(6 / 2) windows of 3


def test_even_padding_is_left_to_the_operator_and_uneven_padding_is_not():
    assert windows(pads=[1, 1, 1, 1]).padded(X, 0.0)[1] == [1, 1]
    wider, left = windows(pads=[0, 1, 2, 0]).padded(X, 0.0)
    assert (tuple(wider.shape), left) == ((1, 1, 7, 7), [0, 0])


@pytest.mark.parametrize(
    "attributes", [{"strides": [0, 1]}, {"pads": [1, 1]}, {"dilations": [1]}, {"kernel": (3, 3, 3)}]
)
def test_lists_that_do_not_fit_are_refused(attributes):
    with pytest.raises(InputError, match="do not fit together"):
        windows(**attributes)
