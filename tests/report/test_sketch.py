import networkx as nx
import pytest
import torch
from helpers import zoo
from helpers.command import small_program
from torch import nn

from sparsify.blocks import blocks
from sparsify.capture import capture
from sparsify.prunable import prunable
from sparsify.report.sketch import sketch


def sketched(program):
    return sketch(program, prunable(program), blocks(program))


def of_zoo(name):
    model, args, kwargs = {**zoo.FAMILIES, **zoo.NETWORKS}[name]()
    return sketched(capture(model, args, kwargs))


@pytest.fixture(scope="module")
def small():
    return sketched(small_program())


def test_a_residual_block(small):
    titles = {name: item.title for name, item in small.items.items()}
    inside = [name for name in titles if name in small.frames["layer1.0"]]
    assert [titles[name] for name in inside] == [f"layer1.0.{name}" for name in ("conv1", "bn1", "conv2", "bn2")] + [
        "+"
    ]
    assert sorted(titles[name] for name in small.graph.pred[inside[-1]]) == ["bn1", "layer1.0.bn2"]
    assert list(small.frames) == ["layer1.0", "layer1.1", "layer2.1"]
    assert [item.title for item in small.items.values() if item.kind == "input"] == ["images"]
    assert nx.is_weakly_connected(small.graph)


def test_boxes_have_the_groups_of_their_output_channels(small):
    channels = {item.title: [group.name for group in item.channels] for item in small.items.values()}
    assert channels["conv1"] == channels["layer1.1.bn2"] == ["conv1"]
    assert channels["layer1.0.bn1"] == ["layer1.0.conv1"]
    last = next(item for item in small.items.values() if item.title == "fc")
    assert (last.channels, last.frozen) == ((), "an output has it")
    assert [group.name for group in last.groups] == ["fc.weight[0]", "layer2.0.conv2"]
    assert (last.parameters, last.macs) == (("fc.weight", "fc.bias"), 80)


ALL = {**zoo.FAMILIES, **zoo.NETWORKS}
SOME = [
    "resnet",
    "bert",
    "llama",
    "mixtral",
    "t5",
    "whisper",
    "swin",
    "mamba",
    "dense-net",
    "weight-norm-conv",
    "mystery",
]


@pytest.mark.parametrize("name", SOME)
def test_every_parameter_and_every_group_is_drawn(name):
    model, args, kwargs = ALL[name]()
    program = capture(model, args, kwargs)
    found = prunable(program)
    drawn = sketch(program, found, blocks(program))
    assert {parameter for item in drawn.items.values() for parameter in item.parameters} == set(program.parameters)
    assert {group.name for item in drawn.items.values() for group in item.groups} == {g.name for g in found.groups}
    assert set(drawn.graph) == set(drawn.items)
    assert nx.is_directed_acyclic_graph(drawn.graph)
    assert all(item.frozen or item.channels or item.kind == "output" for item in drawn.items.values())


def test_queries_keys_and_values_meet_in_attention():
    drawn = of_zoo("bert")
    first = next(name for name, item in drawn.items.items() if item.title == "attention")
    assert sorted(drawn.items[name].title.rpartition(".")[2] for name in drawn.graph.pred[first]) == [
        *("key", "query", "value"),
    ]
    assert [group.kind for group in drawn.items[first].channels] == ["heads", "head-dim"]


def test_a_norm_that_is_written_out_is_one_box():
    drawn = of_zoo("llama")
    norm = next(item for item in drawn.items.values() if item.title == "model.layers.0.input_layernorm")
    assert norm.text == "norm, 48"
    assert [drawn.items[name].title for name in drawn.graph.pred[norm.name]] == ["model.embed_tokens"]


def test_an_operator_without_a_rule_is_a_box():
    drawn = of_zoo("mystery")
    assert [item.title for item in drawn.items.values() if not item.known] == ["zoo::mystery"]


def test_inputs_that_only_matter_to_masks_are_left_out():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.last = nn.Embedding(7, 4), nn.Linear(4, 5)

        def forward(self, ids, mask):
            return self.last(self.words(ids).masked_fill(mask[..., None] == 0, 0.0))

    ids = torch.tensor([[1, 2], [3, 4]])
    drawn = sketched(capture(Net(), (ids, torch.ones(2, 2, dtype=torch.int64))))
    assert [item.title for item in drawn.items.values()] == ["ids", "words", "last", "output"]
