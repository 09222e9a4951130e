"""The text of a graph and source lines."""

import pytest
from helpers.models import ConvNet, images

import sparsify as sp
from sparsify.graph_text import source_line, text, type_text, where_from


@pytest.fixture(scope="module")
def program():
    return sp.capture(ConvNet().eval(), (images(),))


def test_the_users_source_line(program):
    line = source_line(program.node("relu"))
    assert line.endswith("x = torch.relu(self.norm(self.conv(x)))")
    assert "models.py:" in line
    assert source_line(program.placeholders[0]) is None


def test_a_message_names_the_node_and_its_line(program):
    node = program.node("relu")
    assert where_from(node) == f"relu (aten.relu.default), made by {source_line(node)}"
    assert where_from(program.placeholders[0]) == f"{program.placeholders[0].name} ({program.placeholders[0].target})"


def test_the_text_of_a_graph_is_what_the_program_prints(program):
    assert program.spelled(text(program.graph)) == str(program)
    assert program.spelled(type_text(program.node("relu"))).startswith("float32[batch, ")
