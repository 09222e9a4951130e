import numpy as np
import pytest
import torch
from helpers.onnx_files import imported, model_of
from onnx import helper
from torch.export import Dim

from sparsify.onnx_in import rules
from sparsify.onnx_in.graph import Step
from sparsify.onnx_in.op import RULES, SIZE_RULES, Host, Op
from sparsify.onnx_in.sizes import known

rules.load()
CASES = {
    "Add": ([[1, 2], [3, 4]], {}), "Sub": ([[1, 2], [3]], {}), "Mul": ([[1, 2], 3], {}), "Div": ([[7, -7], [2, 2]], {}),
    "Mod": ([[7, 5], [3, 3]], {}), "Max": ([[1, 5], [3, 4]], {}), "Min": ([[1, 5], [3, 4]], {}), "Neg": ([[1, -2]], {}),
    "Equal": ([[1, 2], [1, 3]], {}), "Greater": ([[1, 2], [1, 1]], {}), "GreaterOrEqual": ([[1, 2], [1, 3]], {}),
    "Less": ([[1, 2], [1, 3]], {}), "LessOrEqual": ([[1, 2], [1, 1]], {}), "Identity": ([[1, 2]], {}),
    "Shape": ([[[1, 2], [3, 4]]], {"start": 1}), "Size": ([[[1, 2], [3, 4]]], {}), "Gather": ([[4, 5, 6], [2, -1]], {}),
    "Concat": ([[1], [2, 3]], {"axis": 0}), "Squeeze": ([[[4]], [0]], {}), "Unsqueeze": ([[4, 5], [1]], {}),
    "Reshape": ([[4, 5], [2, 1]], {}), "Slice": ([[1, 2, 3, 4], [-1], [-99], [0], [-2]], {}), "Split": ([[1, 2,
    3], [1, 2]], {}),
    "ConstantOfShape": ([[3]], {"value": np.array([-1])}), "Expand": ([[7], [3]], {}), "ReduceProd": ([[2, 3, 4]], {}),
    "ReduceSum": ([[2, 3, 4]], {"keepdims": 0}), "ReduceMax": ([[2, 3, 4]], {}), "ReduceMin": ([[2, 3, 4]], {}),
    "Cast": ([[1, 0]], {"to": 9}), "Transpose": ([[[1, 2], [3, 4]]], {}),
}  # fmt: skip


def op(name, values, attributes):
    return Op(Step(name, name, ("a",) * len(values), ("y", "z"), attributes), values, opset=17)


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_what_tensors_would_be(name):
    values, attributes = CASES[name]
    given = [Host(np.array(value), torch.int64) for value in values]
    found = known(op(name, given, attributes), given)
    expected = RULES[name](op(name, given, attributes))
    pairs = zip(*(value if isinstance(value, tuple) else (value,) for value in (found, expected)), strict=True)
    for one, other in pairs:
        tensor = other.tensor(torch.device("cpu")) if isinstance(other, Host) else other
        assert one.dtype == tensor.dtype
        assert one.array.tolist() == tensor.tolist()


def test_every_rule_is_compared():
    assert SIZE_RULES.keys() - CASES.keys() == {"Floor", "Ceil", "Not", "Where"}


def test_booleans_and_floats():
    yes = Host(np.array([True, False]), torch.bool)
    two, three = (Host(np.array([n, n]), torch.int64) for n in (2, 3))
    assert known(op("Where", [yes, two, three], {}), [yes, two, three]).array.tolist() == [2, 3]
    assert known(op("Not", [yes], {}), [yes]).array.tolist() == [False, True]
    half = Host(np.array([2.5]), torch.float32)
    assert [known(op(name, [half], {}), [half]).array.tolist() for name in ("Floor", "Ceil")] == [[2.0], [3.0]]


def test_tensors_and_long_arrays_are_left_to_the_other_rules():
    long = Host(np.zeros(5000, np.int64), torch.int64)
    assert known(op("Neg", [long], {}), [long]) is None
    assert known(op("Neg", [torch.ones(2)], {}), [torch.ones(2)]) is None


def test_a_symbol_stays_one(tmp_path):
    make = helper.make_node
    nodes = [
        make("Shape", ["x"], ["s"]), make("Gather", ["s", "zero"], ["b"]), make("Mul", ["b", "four"], ["b4"]),
        make("Div", ["b4", "two"], ["b2"]), make("Cast", ["b2"], ["f"], to=1), make("Floor", ["f"], ["g"]),
        make("Cast", ["g"], ["i"], to=7), make("Unsqueeze", ["i", "axis"], ["u"]), make("Concat", ["u",
            "minus"], ["w"], axis=0),
        make("Equal", ["w", "minus"], ["e"]), make("Where", ["e", "six", "w"], ["v"]), make("Reshape", ["x",
            "v"], ["y"]),
    ]  # fmt: skip
    constants = {"zero": np.array(0), "four": np.array(4), "two": np.array(2), "axis": np.array([0]),
                 "minus": np.array([-1]), "six": np.array([6, 6])}  # fmt: skip
    found = imported(model_of(nodes, {"x": (1, ["batch", 12])}, ["y"], constants), tmp_path / "model.onnx")
    assert found.module()(torch.ones(5, 12)).shape == (10, 6)


def test_symbols_are_compared_by_what_they_can_be():
    class Largest(torch.nn.Module):
        def forward(self, x):
            sizes = Host.of([x.shape[0], 3])
            found = known(op("Max", [sizes, Host(np.array([2, 2]), torch.int64)], {}), [sizes, sizes])
            assert found.array[1] == 3
            return x.sum() + found.tensor(x.device)[0]

    exported = torch.export.export(Largest(), (torch.ones(4, 2),), dynamic_shapes=({0: Dim("b")},))
    assert exported.module()(torch.zeros(7, 2)) == 7
