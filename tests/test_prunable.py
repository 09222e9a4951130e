import json

import pytest
import torch
from helpers import zoo
from helpers.command import small_program
from torch import nn

from sparsify.axes import axes
from sparsify.axes.resize import resized
from sparsify.capture import capture
from sparsify.cost import cost, macs_by_node
from sparsify.groups import groups
from sparsify.prunable import prunable, why_frozen


def captured(name):
    model, args, kwargs = {**zoo.FAMILIES, **zoo.NETWORKS}[name]()
    return capture(model, args, kwargs)


@pytest.fixture(scope="module")
def program():
    return small_program()


def test_groups_are_those_of_the_program(program):
    found = prunable(program)
    assert found.groups == groups(program)
    assert [group.name for group in found.free] == [group.name for group in found.groups if not group.frozen]
    assert list(found.savings) == [group.name for group in found.free]


def test_what_one_channel_between_two_convolutions_saves(program):
    pixels, kernel, outer = 8 * 8, 9, 4
    parameters, macs = prunable(program).savings["layer1.0.conv1"]
    assert parameters == 2 * outer * kernel + 2  # a filter, a slice of the next filters, the norm's weight and bias
    assert macs == 2 * outer * kernel * pixels


@pytest.mark.parametrize("name", ["resnet", "bert", "llama", "mixtral", "dense-net", "shuffle-net"])
def test_one_index_saves_the_parameters_that_its_removal_removes(name):
    program = captured(name)
    found = prunable(program)
    before = cost(program).parameters
    for group in found.free:
        keep = torch.arange(group.size) > 0
        after = sum(value.numel() for value in resized(found.axes, {group.axis: keep}).parameters.values())
        assert found.savings[group.name][0] == before - after, group.name


def test_shares_are_those_of_weights_and_operators_with_a_free_axis(program):
    found = prunable(program)
    outside = sum(value.numel() for name, value in program.parameters.items() if name == "fc.bias")
    assert found.parameters == pytest.approx(1 - outside / cost(program).parameters)
    assert found.macs == 1


def test_an_operator_without_a_rule_freezes_its_surroundings():
    program = captured("mystery")
    found = prunable(program)
    assert found.unknown == axes(program).unknown
    assert list(found.unknown) == ["zoo::mystery"]
    stem, *_ = macs_by_node(program)
    assert found.macs == pytest.approx(1 - macs_by_node(program)[stem] / cost(program).macs)


def test_frozen_axes_are_gathered_by_reason():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.kinds, self.head = nn.Embedding(7, 4), nn.Embedding(3, 4), nn.Linear(4, 5)

        def forward(self, words, kinds):
            return self.head(self.words(words) + self.kinds(kinds))

    program = capture(Net(), (torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, 0], [2, 1]])))
    found = prunable(program)
    assert [group.name for group in found.free] == ["words"]
    (output, data) = found.frozen
    assert (output.reason, output.axes, output.parameters) == ("an output has it", 1, ("head.weight", "head.bias"))
    assert (data.axes, data.parameters) == (2, ("words.weight", "kinds.weight"))
    assert output.share == 5 / (28 + 12 + 20 + 5)  # the bias: every weight has the axis in the middle
    assert data.share == 0
    assert found.parameters == 1 - output.share


def test_a_group_of_which_everything_is_needed_cannot_be_pruned():
    class Top(nn.Module):
        def __init__(self):
            super().__init__()
            self.rank, self.last = nn.Linear(6, 3), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(x) * torch.topk(self.rank(x), 3, dim=-1).values.sum(-1, keepdim=True)

    found = prunable(capture(Top(), (torch.randn(2, 6),)))
    needed = next(group for group in found.groups if group.members[0].parameter == "rank.weight")
    assert why_frozen(needed)
    assert needed not in found.free


def test_json(program):
    found = prunable(program)
    told = json.loads(json.dumps(found.as_dict()))
    assert set(told) == {"groups", "frozen", "prunable", "operators_without_a_rule"}
    assert told["prunable"] == {"parameters": found.parameters, "macs": found.macs}
    by_name = {group["name"]: group for group in told["groups"]}
    assert list(by_name) == [group.name for group in found.groups]
    for group in found.groups:
        item = by_name[group.name]
        assert (item["kind"], item["size"], item["exact"], item["note"], item["least"]) == (
            *(group.kind, group.size, group.exact, group.note, group.least),
        )
        assert item["frozen"] == bool(item["reason"]) == (group.name not in found.savings)
        assert (item["parameters_per_index"], item["macs_per_index"]) == found.savings.get(group.name, (None, None))
        assert [(member["parameter"], member["dim"]) for member in item["members"]] == [
            (member.parameter, member.dim) for member in group.members
        ]
    (output,) = found.frozen
    frozen = {"reason": "an output has it", "axes": 1, "parameters": ["fc.weight", "fc.bias"], "share": output.share}
    assert told["frozen"] == [frozen]
