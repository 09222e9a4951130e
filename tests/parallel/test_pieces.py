"""Pieces of a graph: one behind the other they compute what the whole graph does."""

import pytest
import torch
from helpers.models import Net
from helpers.zoo import FAMILIES, NETWORKS
from torch import nn
from torch.testing import assert_close

import sparsify as sp
from sparsify.modes import evaluation_graph
from sparsify.parallel.pieces import cut, places
from sparsify.parallel.sharded_module import ShardedModule


def sizes_of(program):
    return {name: value.numel() for name, value in program.parameters.items()}


@pytest.mark.parametrize("name", ["resnet-basic", "llama", "tied-language-model", "gru-classifier"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_pieces_compute_what_the_whole_does(name, training):
    model, args, kwargs = {**FAMILIES, **NETWORKS}[name]()
    program = sp.capture(model, args, kwargs)
    size = sum(sizes_of(program).values()) // 5
    module = ShardedModule(program, lambda graph: None, least=size).train(training)
    assert len(module.pieces) > 2
    assert list(dict(module.named_parameters())) == list(program.parameters)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        found = module(*args, **kwargs)
        torch.manual_seed(0)
        expected = program.module(training=training)(*args, **kwargs)
    assert_close(found, expected, rtol=0, atol=0)


def tied():
    model = Net(lambda s, x: s.out(torch.relu(s.hidden(s.table(x)))), table=nn.Embedding(20, 8), hidden=nn.Linear(8, 8),
                out=nn.Linear(8, 20, bias=False))  # fmt: skip
    model.out.weight = model.table.weight
    return sp.capture(model, (torch.randint(0, 20, (2, 5)),))


def test_what_several_pieces_read_is_handed_over():
    program = tied()
    where = places(program.graph, sizes_of(program), 80)
    pieces = cut(program.graph, where, program.parameters)
    assert pieces.shared == ("table.weight",)
    assert sorted(name for names in pieces.state for name in names) == ["hidden.bias", "hidden.weight"]
    assert [node.target for node in pieces.root.nodes if node.op == "call_module"] == [f"pieces.{i}" for i in range(2)]


def test_a_piece_makes_views_of_its_weights_itself():
    program = sp.capture(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 6)), (torch.randn(3, 6),))
    pieces = cut(program.graph, places(program.graph, sizes_of(program), 1), program.parameters)
    for graph in pieces.graphs:
        for node in graph.nodes:
            if node.op == "placeholder":
                assert all(user.op in ("call_function", "output") for user in node.users)
    assert [len(names) for names in pieces.state] == [2, 2]


def test_forms_are_cut_at_the_same_places():
    program = sp.capture(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 6)), (torch.randn(3, 6),))
    where = places(program.graph, sizes_of(program), 20)
    evaluated = cut(evaluation_graph(program.graph), where, program.parameters)
    trained = cut(program.graph, where, program.parameters)
    parameters = [[name for name in names if name in program.parameters] for names in trained.state]
    assert parameters == [[n for n in names if n in program.parameters] for names in evaluated.state]


def test_one_large_node_is_a_piece():
    program = sp.capture(nn.Sequential(nn.Linear(6, 400), nn.Linear(400, 6)), (torch.randn(3, 6),))
    assert set(places(program.graph, sizes_of(program), 10).values()) == {0, 1}
