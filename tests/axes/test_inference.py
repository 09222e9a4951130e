"""The axes of whole programs: what is the same, what is frozen, and why."""

import pytest
import torch
from helpers.zoo import FAMILIES, NETWORKS
from torch import nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.axes.axis import find, leaves
from sparsify.axes.inference import RULES
from sparsify.freezing import frozen as frozen_in_part
from sparsify.freezing import redrawn
from sparsify.groups import groups_of
from sparsify.shapes import kind, propagate_shapes


def inferred(model, *inputs):
    torch.manual_seed(0)
    return axes(sp.capture(model.eval(), inputs))


def frozen(found):
    return {(member.parameter, member.dim): group.reason for group in groups_of(found) for member in group.members}


class Chain(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.a, self.b, self.between = nn.Linear(3, 8), nn.Linear(8, 5), between

    def forward(self, x):
        return self.b(self.between(self.a(x)))


def test_inputs_and_outputs_are_frozen():
    reasons = frozen(inferred(Chain(torch.relu), torch.randn(2, 3)))
    assert reasons["a.weight", 1] == "an input has it"
    assert reasons["b.weight", 0] == reasons["b.bias", 0] == "an output has it"
    assert reasons["a.weight", 0] == reasons["b.weight", 1] == ""


def test_every_node_with_a_tensor_has_an_axis_for_each_dimension():
    for name in ("mixtral", "swin", "split-cat", "lstm-classifier"):
        model, args, kwargs = {**FAMILIES, **NETWORKS}[name]()
        program = sp.capture(model, args, kwargs)
        found = axes(program)
        for node in program.graph.nodes:
            value = node.meta.get("val")
            if node.op != "output" and isinstance(value, torch.Tensor):
                assert len(found.dims[node]) == value.ndim, node
                assert [axis.dynamic for axis in found.dims[node]] == [not isinstance(n, int) for n in value.shape]


@pytest.mark.parametrize("name", [*FAMILIES, *NETWORKS])
def test_looking_at_a_program_changes_none_of_its_sizes(name):
    """A rule that compares a dynamic size with a number would fix it."""
    model, args, kwargs = {**FAMILIES, **NETWORKS}[name]()
    program = sp.capture(model, args, kwargs)

    def shapes():
        return {node.name: kind(node.meta.get("val")) for node in program.graph.nodes if node.op == "call_function"}

    before = {name: key[3] if isinstance(key, tuple) and len(key) == 5 else None for name, key in shapes().items()}
    axes(program)
    propagate_shapes(program)
    after = {name: key[3] if isinstance(key, tuple) and len(key) == 5 else None for name, key in shapes().items()}
    assert before == after


def test_an_elementwise_operator_without_a_rule_is_safe():
    assert "aten::special_erfcx" not in RULES
    found = inferred(Chain(torch.special.erfcx), torch.randn(2, 3))
    group = next(group for group in groups_of(found) if not group.frozen)
    assert group.size == 8
    assert found.unknown == {}


def test_another_operator_without_a_rule_freezes():
    assert "aten::renorm" not in RULES
    found = inferred(Chain(lambda x: torch.renorm(x, 2, 1, 1.0)), torch.randn(2, 3))
    assert frozen(found)["a.weight", 0] == "aten::renorm has no axis rule"
    assert list(found.unknown) == ["aten::renorm"]


class Written(nn.Module):
    """Four of the channels are written through a slice."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 12), nn.Linear(12, 5)

    def forward(self, x):
        x = self.a(x) * 1
        x[:, :4] = 0
        return self.b(x)


def test_a_write_freezes_the_places_that_are_written():
    free = [(group.name, group.size) for group in groups_of(inferred(Written(), torch.randn(2, 3))) if not group.frozen]
    assert free == [("a", 8)]


def test_tied_parameters_have_one_axis():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mid, self.out = nn.Embedding(7, 6), nn.Linear(6, 6), nn.Linear(6, 7, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, ids):
            return self.out(torch.relu(self.mid(self.embed(ids))))

    found = inferred(Tied(), torch.randint(0, 7, (2, 4)))
    node = next(node for node in found.dims if node.target == "embed.weight")
    rows, width = found.dims[node]
    assert "its indices come from data" in find(rows).frozen or "output" in find(rows).frozen
    mid = next(node for node in found.dims if node.target == "mid.weight")
    assert find(width) is find(found.dims[mid][0]) is find(found.dims[mid][1])


def test_two_users_share_a_refinement():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 12), nn.Linear(12, 5), nn.Linear(4, 2)

        def forward(self, x):
            y = self.a(x)
            return self.b(torch.relu(y)), self.c(torch.tanh(y.view(-1, 3, 4)).sum(1))

    found = inferred(Heads(), torch.randn(2, 3))
    node = next(node for node in found.dims if node.target == "b.weight")
    assert [leaf.size for leaf in leaves(found.dims[node][1])] == [3, 4]


def perceptron():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 3))
    return sp.capture(net, (torch.randn(4, 6),))


@pytest.mark.parametrize("seed", [None, 7], ids=["stored", "from a seed"])
def test_channels_of_a_frozen_weight_stay_and_others_go(seed):
    program = redrawn(perceptron(), 7)
    half = torch.arange(48).view(8, 6) % 2 == 0
    program = frozen_in_part(program, {"0.weight": half}, seed)
    reasons = [group.reason for group in sp.groups(program) if group.frozen]
    assert any("`--pass fold` writes it out" in reason for reason in reasons)
    assert [group.size for group in sp.groups(program) if not group.frozen] == [10]
    pruned = sp.run(program, ["channel-prune:sparsity=0.5", "shrink"]).program
    assert pruned.parameters["2.weight"].shape == (5, 8)
    assert pruned.parameters["0.weight"].shape == (8, 6)
    assert pruned.frozen.keys() == {"0.weight"}


@pytest.mark.parametrize("spec", ["embed:kind=dct,sparsity=0.5", "embed:kind=projection,dimension=20"])
def test_what_makes_embedded_weights_has_no_unknown_operators(spec):
    program = sp.run(perceptron(), [spec]).program
    assert not axes(program).unknown
    assert all(group.frozen for group in sp.groups(program))


def test_a_basis_that_filters_share_has_no_channels():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 3))
    program = sp.run(
        sp.capture(net, (torch.randn(2, 1, 8, 8),)), ["embed:kind=interspace", "weight-prune:sparsity=0.5"]
    )
    assert all(group.frozen for group in sp.groups(program.program))
