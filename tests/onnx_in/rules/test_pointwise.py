import numpy as np
import pytest
import torch
from helpers.onnx_files import one, rand, run
from onnx import TensorProto

from sparsify.errors import InputError

X = ["batch", 3, 4]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    "operator",
    ["Abs", "Atan", "Ceil", "Cos", "Erf", "Exp", "Floor", "Identity", "IsNaN", "Neg", "Reciprocal", "Round", "Sign",
     "Sin", "Sinh", "Tan"],
)  # fmt: skip
def test_one_operand(operator, path):
    assert one(operator, [X], path).dynamic_batch


@pytest.mark.parametrize("operator", ["Acos", "Acosh", "Asin", "Log", "Sqrt", "Asinh", "Atanh", "Cosh"])
def test_not_a_number_is_the_same_where_a_function_is_not_defined(operator, path):
    run(operator, [X], path)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("other", [X, rand(4), np.float32(2.0), np.array([3.0], np.float32)])
def test_two_operands(operator, other, path):
    run(operator, [X, np.asarray(other) if not isinstance(other, list) else other], path)


@pytest.mark.parametrize("operator", ["Sub", "Div", "Pow", "Add", "Mul"])
@pytest.mark.parametrize("first", [np.array(1.0, np.float32), np.array(2.5, np.float32), np.abs(rand(3, 1))])
def test_a_constant_may_come_first(operator, first, path):
    run(operator, [first, X], path)


@pytest.mark.parametrize("operator", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_comparisons(operator, path):
    run(operator, [X, rand(3, 4)], path)
    run(operator, [np.array(0.1, np.float32), X], path)
    run(operator, [(np.int64, X), (np.int64, X)], path)


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
def test_logic(operator, path):
    run(operator, [(np.bool_, X), np.array([True, False, True, False])], path)
    run(operator, [(np.bool_, X), np.array(True)], path)


def test_not(path):
    run("Not", [(np.bool_, X)], path)


@pytest.mark.parametrize("other", [np.array(-2), np.array([3, -3, 2, -2])])
def test_integers_are_divided_towards_zero(other, path):
    found = one("Div", [(np.int64, ["batch", 4]), other], path)
    expected = torch.tensor([[7 / 3, -7 / -3, 3, -3]]).trunc().long() if other.ndim else torch.tensor([[-3, 3, -3, 3]])
    assert torch.equal(found.module()(torch.tensor([[7, -7, 7, 6]]) if other.ndim else torch.tensor([[7, -7, 7, -7]])),
                       expected)  # fmt: skip


@pytest.mark.parametrize(("fmod", "expected"), [(0, [1, -2, 2, -1]), (1, [1, 1, -1, -1])])
def test_mod(fmod, expected, path):
    found = one("Mod", [(np.int64, ["batch", 4]), np.array([3, -3, 3, -3])], path, fmod=fmod)
    assert found.module()(torch.tensor([[7, 7, -7, -7]])).tolist() == [expected]


@pytest.mark.parametrize("opset", [11, 13, 21])
@pytest.mark.parametrize("bounds", [[-0.5, 0.5], [0.0], [None, 6.0], []])
def test_clip(bounds, opset, path):
    given = [None if bound is None else np.array(bound, np.float32) for bound in bounds]
    run("Clip", [X, *given], path, opset=opset)


@pytest.mark.parametrize(
    "choices", [(X, X), (np.float32(1), X), (X, np.float32(-np.inf)), (np.float32(0), np.float32(1))]
)
def test_where(choices, path):
    run("Where", [(np.bool_, X), *(np.asarray(c) if not isinstance(c, list) else c for c in choices)], path)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_cast(kind, path):
    run("Cast", [X], path, to=kind)


def test_cast_like(path):
    run("CastLike", [X, np.array([1], np.int64)], path, opset=19)


def test_a_type_that_torch_does_not_have_is_refused(path):
    with pytest.raises(InputError, match="type 8"):
        run("Cast", [X], path, to=TensorProto.STRING)


@pytest.mark.parametrize("signs", [(1, 1), (1, 0), (0, 1)])
def test_infinity(signs, path):
    found = one("IsInf", [X], path, opset=20, detect_positive=signs[0], detect_negative=signs[1])
    values = torch.tensor([np.inf, -np.inf, 1.0, np.nan]).expand(1, 3, 4)
    assert found.module()(values)[0, 0].tolist() == [bool(signs[0]), bool(signs[1]), False, False]


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bits_are_shifted(direction, path):
    found = one("BitShift", [(np.uint8, ["batch", 2]), np.array([1, 1], np.uint8)], path, direction=direction)
    values = torch.tensor([[16, 2]], dtype=torch.uint8)
    assert found.module()(values).tolist() == [[32, 4] if direction == "LEFT" else [8, 1]]
