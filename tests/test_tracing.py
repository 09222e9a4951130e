"""torch.export with the symbolic sizes that a model allows."""

import warnings

import pytest
import torch
from torch import nn

from sparsify.capture import capture
from sparsify.errors import CaptureError
from sparsify.program import Example, dynamic_sizes
from sparsify.tracing import batch_dims, export, quiet


class Sequence(nn.Module):
    def forward(self, ids, scale, table):
        return table[ids] * scale


class TestsItsLength(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] == 5 else x


def symbolic(exported):
    nodes = [node for node in exported.graph.nodes if node.op == "placeholder"]
    return [set(dynamic_sizes(node)) for node in nodes]


def test_the_batch_is_the_first_dimension_of_what_is_as_long_as_the_first():
    example = Example((torch.zeros(2, 3), 4, torch.zeros(2)), {"table": torch.zeros(7, 2), "rows": torch.zeros(2, 2)})
    assert batch_dims(example) == [{0}, set(), {0}, set(), {0}]


def test_wanted_sizes_are_symbolic():
    example = Example((torch.zeros(2, 5, dtype=torch.int64), 3.0, torch.randn(7, 4)), {})
    assert symbolic(export(Sequence(), example, [{0, 1}, (), ()]))[0] == {0, 1}
    assert symbolic(export(Sequence(), example, batch_dims(example)))[0] == {0}
    assert not any(symbolic(export(Sequence(), example)))


def test_a_size_of_one_is_widened_for_the_trace():
    example = Example((torch.zeros(1, 1, dtype=torch.int64), 3.0, torch.randn(7, 4)), {})
    assert symbolic(export(Sequence(), example, [{0, 1}, (), ()]))[0] == {0, 1}


def test_a_size_that_the_model_tests_is_given_up_alone():
    exported = export(TestsItsLength(), Example((torch.randn(2, 5),), {}), [{0, 1}])
    assert symbolic(exported) == [{0}]


@pytest.mark.filterwarnings("error")
def test_quiet(capsys):
    with quiet():
        print("chatter")
        warnings.warn("chatter", stacklevel=1)
    assert capsys.readouterr() == ("", "")


def test_further_dimensions_are_symbolic_on_demand():
    program = capture(nn.Linear(4, 3), (torch.randn(2, 5, 4),), dynamic=[{1}])
    assert [set(dynamic_sizes(node)) for node in program.placeholders] == [{0, 1}]
    assert program.module()(torch.randn(7, 9, 4)).shape == (7, 9, 3)
    alone = capture(nn.Linear(4, 3), (torch.randn(2, 5, 4),), dynamic_batch=False, dynamic=[{1}])
    assert [set(dynamic_sizes(node)) for node in alone.placeholders] == [{1}]


def test_a_size_that_the_model_fixes_is_noted():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.randn(5, 4))

        def forward(self, x):
            return x + self.position

    program = capture(Fixed(), (torch.randn(2, 5, 4),), dynamic=[{1}])
    assert [set(dynamic_sizes(node)) for node in program.placeholders] == [{0}]
    assert program.notes == (
        "The model fixes a size that should be dynamic: the program only runs at that size of the example.",
    )


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [([{1}, {1}], "2 inputs; the example has 1"), ([{2}], r"dimension 2 of an input that does not have it: \[2, 4\]")],
)
def test_dimensions_that_are_not_there_cannot_be_symbolic(dynamic, message):
    with pytest.raises(CaptureError, match=message):
        capture(nn.Linear(4, 3), (torch.randn(2, 4),), dynamic=dynamic)


def test_dimensions_by_keyword():
    class Two(nn.Module):
        def forward(self, x, mask):
            return (x * mask).sum(-1)

    inputs = {"x": torch.randn(2, 5, 4), "mask": torch.randn(2, 5, 4)}
    program = capture(Two(), (), inputs, dynamic={"x": {1}, "mask": {1}})
    assert [set(dynamic_sizes(node)) for node in program.placeholders] == [{0, 1}, {0, 1}]
    assert "float32[batch, size, 4]" in str(program)
    same = capture(Two(), (), {"x": inputs["x"], "mask": inputs["x"]}, dynamic={"x": {1}, "mask": {1}})
    assert [set(dynamic_sizes(node)) for node in same.placeholders] == [{0, 1}, {0, 1}]
    with pytest.raises(
        CaptureError, match=r"dynamic names 'y', which is no keyword input that is a tensor \(x, mask\)"
    ):
        capture(Two(), (), inputs, dynamic={"y": {1}})
    with pytest.raises(CaptureError, match="dynamic names dimension 'a' of an input"):
        capture(Two(), (), inputs, dynamic={"x": {"a"}})
