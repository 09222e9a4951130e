"""Graphs: copies, text and source lines."""

import pytest
from helpers.models import ConvNet, images

import sparsify as sp
from sparsify.graph import copied_graph, source_line, text


@pytest.fixture(scope="module")
def program():
    return sp.capture(ConvNet().eval(), (images(),))


def test_the_users_source_line(program):
    line = source_line(program.node("relu"))
    assert line.endswith("x = torch.relu(self.norm(self.conv(x)))")
    assert "models.py:" in line
    assert source_line(program.placeholders[0]) is None


def test_a_copied_graph_is_independent(program):
    graph = copied_graph(program.graph)
    assert [node.name for node in graph.nodes] == [node.name for node in program.graph.nodes]
    assert all(node.meta.get("val") is program.node(node.name).meta.get("val") for node in graph.nodes)
    graph.erase_node(next(node for node in reversed(graph.nodes) if node.op == "output"))
    assert str(program).endswith("return [%linear]")


def test_the_text_of_a_graph_is_what_the_program_prints(program):
    assert program.spelled(text(program.graph)) == str(program)
