import numpy as np
import pytest
import torch

from sparsify.errors import InputError
from sparsify.onnx_in.graph import Step
from sparsify.onnx_in.op import Host, Op


def op(values, outputs=("y",), **attributes):
    return Op(Step("Slice", "cut", ("a",) * len(values), outputs, attributes), values, opset=17)


def host(*values):
    return Host(np.array(values), torch.int64)


def test_inputs_as_tensors_numbers_and_as_they_are():
    found = op([torch.ones(2), host(3, 4), None, Host(np.array(0.5, np.float32), torch.float32)])
    assert torch.equal(found.tensor(1), torch.tensor([3, 4]))
    assert (found.numbers(1), found.operand(3), found.has(2), found.has(9), len(found)) == (
        [3, 4],
        0.5,
        False,
        False,
        4,
    )
    assert found.optional(2) is None


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda o: o.numbers(0), "its input 0 depends on values"),
        (lambda o: o.number(1), "its input 1 has 2 values, and one is wanted"),
        (lambda o: o.tensor(2), "its input 2 is missing"),
        (lambda o: o.tensor(7), "its input 7 is missing"),
        (lambda o: o.only_first(), "its further output 'z' is read"),
    ],
)
def test_what_is_not_there_is_refused_by_name(ask, reason):
    with pytest.raises(InputError, match=f"Slice 'cut' cannot be read: {reason}"):
        ask(op([torch.ones(2), host(3, 4), None], outputs=("y", None, "z")))


def test_axes_are_an_attribute_or_an_input():
    assert op([torch.ones(2), host(1)]).axes(1) == [1]
    assert op([torch.ones(2)], axes=[0, -1]).axes(1) == [0, -1]
    assert op([torch.ones(2)]).axes(1) is None


def test_which_outputs_are_wanted():
    assert [op([], outputs=("y", None)).wants(i) for i in range(3)] == [True, False, False]


def test_numbers_without_symbols_are_a_plain_array():
    found = Host.of([1, 2])
    assert (found.array.dtype, found.symbolic) == (np.dtype(np.int64), False)
    assert torch.equal(Host.of(3.5, torch.float32).tensor(torch.device("cpu")), torch.tensor(3.5))
