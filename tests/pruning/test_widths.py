"""Widths: what other sizes cost is what the smaller program then costs."""

import pytest
import torch
from helpers.zoo import FAMILIES, NETWORKS

import sparsify as sp
from sparsify.axes import axes
from sparsify.axes.resize import resized
from sparsify.groups import groups_of
from sparsify.pruning.widths import Widths
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
