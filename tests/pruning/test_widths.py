"""Widths: what other sizes cost is what the smaller program then costs."""

import pytest
import torch
from helpers.zoo import FAMILIES, NETWORKS

import sparsify as sp
from sparsify.axes import axes
from sparsify.axes.resize import resized
from sparsify.groups import groups_of
from sparsify.pruning.widths import Floor, Widths
from sparsify.shapes import propagate_shapes


@pytest.mark.parametrize("name", ["regnet", "llama", "swin", "mobilenetv2", "dense-net", "unet", "lstm-classifier"])
def test_counts_agree_with_the_built_program(name):
    model, args, kwargs = {**FAMILIES, **NETWORKS}[name]()
    found = axes(sp.capture(model, args, kwargs))
    keep = {
        group.axis: torch.arange(group.size) % 3 > 0
        for group in groups_of(found)
        if not group.frozen and group.size > 2
    }
    sizes = {axis: int(kept.sum()) for axis, kept in keep.items()}
    small = resized(found, keep)
    propagate_shapes(small)
    widths, cost = Widths(found), sp.cost(small)
    assert widths.parameters(sizes) == cost.parameters
    assert widths.macs(sizes) == cost.macs
    dense = sp.cost(found.program)
    assert (widths.parameters({}), widths.macs({})) == (dense.parameters, dense.macs)


@pytest.mark.parametrize("name", ["regnet", "llama", "swin", "dense-net", "lstm-classifier"])
def test_savings_are_the_difference_that_one_index_makes(name):
    model, args, kwargs = {**FAMILIES, **NETWORKS}[name]()
    found = axes(sp.capture(model, args, kwargs))
    free = [group.axis for group in groups_of(found) if not group.frozen]
    widths = Widths(found)
    savings = widths.savings(free)
    assert savings.keys() == set(free)
    for axis in free:
        less = {axis: axis.size - 1}
        parameters, macs = widths.parameters({}) - widths.parameters(less), widths.macs({}) - widths.macs(less)
        assert savings[axis] == (parameters, macs)


def test_a_floor_keeps_multiples_or_all():
    def sizes(floor):
        return [floor.after(times) for times in range(1, floor.steps + 1)]

    assert sizes(Floor(size=20, step=8, least=8)) == [16, 8]
    assert sizes(Floor(size=16, step=8, least=8)) == [8]
    assert sizes(Floor(size=5, step=1, least=2)) == [4, 3, 2]
    assert sizes(Floor(size=20, step=8, least=20)) == []


def test_a_floor_follows_the_options():
    model, args, kwargs = FAMILIES["llama"]()
    groups = {group.name: group for group in groups_of(axes(sp.capture(model, args, kwargs)))}

    def floor(name, **options):
        return Floor.of(groups[name], **{"round_to": 1, "max_sparsity": 0.9, "minimum": 1, **options})

    stream = groups["model.embed_tokens"]
    assert floor("model.embed_tokens") == Floor(stream.size, 1, -(-stream.size // 10))
    assert floor("model.embed_tokens", round_to=8).step == 8
    assert floor("model.embed_tokens", minimum=17, round_to=8).least == 24
    assert floor("model.embed_tokens", minimum=10_000).least == stream.size
    rotary = next(group for group in groups.values() if group.kind == "head-dim" and "q_proj" in group.name)
    assert floor(rotary.name, round_to=2).step == 1  # a pair is two positions
