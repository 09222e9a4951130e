"""Groups: names, kinds, members and reasons of whole models."""

import pytest
import torch
from helpers.zoo import FAMILIES, NETWORKS
from torch import nn

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.groups import groups


def found(name):
    model, args, kwargs = {**FAMILIES, **NETWORKS}[name]()
    return {group.name: group for group in groups(sp.capture(model, args, kwargs))}


def kinds(name):
    return {(group.kind, group.size) for group in found(name).values() if not group.frozen}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 4, 5)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().flatten(1))


def test_a_group_has_all_that_goes_together():
    listed = groups(sp.capture(Small(), (torch.randn(2, 3, 4, 4),)))
    group = next(group for group in listed if not group.frozen)
    assert (group.name, group.kind, group.size, group.exact, group.reason, group.least) == (
        "conv", "channels", 6, True, "", 1)  # fmt: skip
    assert [(member.parameter, member.dim) for member in group.members] == [
        ("conv.weight", 0), ("conv.bias", 0), ("norm.weight", 0), ("norm.bias", 0), ("head.weight", 1)]  # fmt: skip
    assert group.members[0].index.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert group.members[-1].index.tolist() == [[i for i in range(6) for _ in range(4)]]
    reasons = {group.name: group.reason for group in listed if group.frozen}
    assert reasons["conv.weight[1]"] == "an input has it"
    assert reasons["head.weight[0]"] == "an output has it"
    assert not any("kernel" in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama", {"stream", "kv-groups", "heads", "head-dim", "channels"}),
        ("gpt2", {"stream", "heads", "head-dim", "channels"}),
        ("mixtral", {"stream", "kv-groups", "heads", "head-dim", "channels", "experts"}),
        ("regnet", {"stream", "conv-groups", "channels"}),
        ("mobilenetv2", {"stream", "channels"}),
        ("dense-net", {"channels"}),
        ("multi-query", {"heads", "head-dim"}),
    ],
)
def test_kinds(name, expected):
    assert {kind for kind, _ in kinds(name)} == expected


def test_names_of_a_language_model():
    names = set(found("gpt2"))
    assert {"transformer.wte", "transformer.h.0.attn.c_attn/heads", "transformer.h.0.attn.c_attn/head-dim",
            "transformer.h.0.attn.c_attn/head-dim#2", "transformer.h.1.mlp.c_fc"} <= names  # fmt: skip


def test_a_head_of_a_fused_projection_has_three_pieces():
    group = found("gpt2")["transformer.h.0.attn.c_attn/heads"]
    member = next(m for m in group.members if m.parameter == "transformer.h.0.attn.c_attn.weight")
    (row,) = member.index
    width = len(row) // 3 // group.size
    assert row.tolist() == [head for _ in range(3) for head in range(group.size) for _ in range(width)]


def test_query_heads_share_the_heads_of_keys():
    groups_of_llama = found("llama")
    shared = groups_of_llama["model.layers.0.self_attn.q_proj/kv-groups"]
    assert {member.parameter.rpartition(".")[0].rpartition(".")[2] for member in shared.members} == {
        "q_proj", "k_proj", "v_proj", "o_proj"}  # fmt: skip
    own = groups_of_llama["model.layers.0.self_attn.q_proj/heads"]
    assert {member.parameter.rpartition(".")[0].rpartition(".")[2] for member in own.members} == {"q_proj", "o_proj"}


def test_rotary_channels_go_in_pairs():
    group = found("llama")["model.layers.0.self_attn.q_proj/head-dim"]
    member = next(m for m in group.members if "k_proj" in m.parameter)
    (row,) = member.index
    assert row[: 2 * group.size].tolist() == [*range(group.size), *range(group.size)]


def test_a_router_needs_as_many_experts_as_it_chooses():
    group = found("mixtral")["model.layers.0.mlp.gate/experts"]
    assert (group.size, group.least, group.exact) == (4, 2, False)
    assert "depends on how many indices it has" in group.note


def test_the_order_and_the_names_are_stable():
    assert list(found("swin")) == list(found("swin"))
    assert len(set(found("t5"))) == len(found("t5"))


def test_a_module_is_no_program():
    with pytest.raises(UsageError, match="A program is needed, not Linear"):
        groups(nn.Linear(3, 2))
