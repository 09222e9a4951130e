"""Graphs: copies, and masks."""

import pytest
import torch
from helpers.models import ConvNet, images

import sparsify as sp
from sparsify.graph import copied_graph, copied_nodes, mask_nodes
from sparsify.masking import masked


@pytest.fixture(scope="module")
def program():
    return sp.capture(ConvNet().eval(), (images(),))


def test_a_copied_graph_is_independent(program):
    graph = copied_graph(program.graph)
    assert [node.name for node in graph.nodes] == [node.name for node in program.graph.nodes]
    assert all(node.meta.get("val") is program.node(node.name).meta.get("val") for node in graph.nodes)
    graph.erase_node(next(node for node in reversed(graph.nodes) if node.op == "output"))
    assert str(program).endswith("return [%linear]")


def test_masks_are_found_and_can_be_left_out_of_a_copy(program):
    name, weight = next(iter(program.parameters.items()))
    with_mask = masked(program, {name: torch.ones(weight.shape, dtype=torch.bool)})
    (node,) = mask_nodes(with_mask.graph)
    mask, attribute = node.all_input_nodes
    graph, nodes = copied_nodes(with_mask.graph, {node: attribute, mask: None})
    assert {other.name for other in with_mask.graph.nodes} - {other.name for other in graph.nodes} == {
        node.name,
        mask.name,
    }
    assert nodes[node] is nodes[attribute]
    assert mask not in nodes
    assert str(with_mask.with_graph(graph)) == str(program)
    graph.lint()
