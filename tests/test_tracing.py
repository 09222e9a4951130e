"""torch.export with the symbolic sizes that a model allows."""

import warnings

import pytest
import torch
from torch import nn

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
