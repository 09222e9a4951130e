"""The new sizes of axes, from the shapes of a smaller program."""

import pytest
from helpers.writing import halved, zoo_entry

from sparsify.axes.axis import leaves
from sparsify.writing.new_sizes import NewSizes


@pytest.mark.parametrize(
    "name", ["gpt2", "llama", "mixtral", "swin", "regnet", "unet", "group-norm-net", "dense-net", "repeated-heads"]
)
def test_every_leaf_is_found(name):
    _, found, groups = zoo_entry(name)
    sizes = NewSizes(found, halved(found, groups))
    assert {group.name: sizes.of(group.axis) for group in groups} == {
        group.name: max(group.least, group.size // 2) for group in groups
    }
    dims = [axis for node, dims in found.dims.items() if node.op == "get_attr" for axis in dims]
    frozen = [leaf for axis in dims for leaf in leaves(axis) if leaf.frozen]
    assert all(sizes.of(leaf) == leaf.size for leaf in frozen)


def test_the_sizes_inside_a_dimension():
    _, found, groups = zoo_entry("gpt2")
    small = halved(found, [group for group in groups if group.kind in ("heads", "stream")])
    inside = NewSizes(found, small).inside("transformer.h.0.attn.c_attn.weight")
    listed = {(size.place[0], size.old, size.new, *sorted(size.kinds)) for size in inside}
    assert {
        (0, 48, 24, "stream"),
        (1, 144, 72, "head-dim", "heads"),
        (1, 48, 24, "head-dim", "heads"),
        (1, 4, 2, "heads"),
        (1, 12, 12, "head-dim"),
    } <= listed


def test_a_tied_parameter_is_found_by_all_names():
    _, found, groups = zoo_entry("gpt2")
    sizes = NewSizes(found, halved(found, groups))
    assert "lm_head.weight" in sizes.names
    assert sizes.inside("lm_head.weight") == sizes.inside("transformer.wte.weight")


def test_groups_are_the_outer_part_of_a_dimension():
    _, found, groups = zoo_entry("group-norm-net")
    sizes = NewSizes(found, halved(found, groups))
    assert sizes.outer("norm1.weight", 0, 4) == 2
    assert sizes.outer("norm1.weight", 0, 12) == 2
    assert sizes.outer("norm1.weight", 0, 5) == 5
