import pytest
import torch
from helpers.residual import lines, resnet, wired
from torch import nn

from sparsify.residual import find_branches, shape
from sparsify.stream import Stream

X = torch.randn(2, 4)


def branches(wire, *inputs, **parts):
    _, program = wired(wire, inputs or (X,), **parts)
    return find_branches(Stream(program))


def names(nodes):
    return sorted(node.name for node in nodes)


def test_a_branch_and_its_region():
    (branch,) = branches(lambda s, x: s.c((y := s.a(x)) + s.b(y).relu()), **lines(n=3))
    assert (branch.entry.name, branch.exit.name) == ("linear", "add")
    assert names(branch.region) == ["add", "linear_1", "relu"]
    assert (branch.shortcut, branch.reason, branch.droppable) == ("identity", None, True)


def test_all_adds_of_a_sum_belong_to_it():
    (branch,) = branches(lambda s, x: s.d(s.b(y := s.a(x)) + y + s.c(y)), **lines(n=4))
    assert branch.exit.name == "add_1"
    assert names(branch.region) == ["add", "add_1", "linear_1", "linear_2"]


def test_a_sum_inside_a_sum_counts_when_it_has_another_entry():
    inner, outer = branches(lambda s, x: s.d((y := s.a(x)) + ((z := s.b(y)) + s.c(z))), **lines(n=4))
    assert (inner.entry.name, inner.exit.name) == ("linear_1", "add")
    assert (outer.entry.name, outer.exit.name) == ("linear", "add_1")
    assert inner.region < outer.region


def test_the_region_of_a_projected_block_leaves_the_shortcut_out():
    _, program = resnet()
    branch = next(item for item in find_branches(Stream(program)) if item.shortcut == "projection")
    read = {source.target for node in branch.region for source in node.all_input_nodes if source.op == "get_attr"}
    assert "layer2.0.conv1.weight" in read
    assert not any("downsample" in name for name in read)
    assert branch.droppable
    assert branch.reason is not None


def test_a_projected_block_whose_inner_value_is_read_cannot_be_dropped_at_all():
    def wire(s, x):
        x = s.stem(x)
        z = s.one(x)
        return s.short(x) + s.two(z), z

    sizes = {"stem": (4, 4), "one": (4, 6), "two": (6, 5), "short": (4, 5)}
    (branch,) = branches(wire, **{name: nn.Linear(*size) for name, size in sizes.items()})
    assert branch.shortcut == "projection"
    assert not branch.droppable
    assert branch.reason == "its inner value linear_1 is also read by output"


@pytest.mark.parametrize("heavy", [True, False])
def test_a_sum_of_two_branches_is_a_block_only_if_one_is_the_shortcut(heavy):
    def wire(s, x):
        x = s.a(x)
        return s.b(x) + (s.d(s.c(x).relu()) if heavy else s.c(x))

    assert len(branches(wire, **lines(n=4))) == heavy


def test_a_pooled_shortcut():
    def wire(s, x):
        x = s.stem(x)
        return nn.functional.avg_pool2d(x, 2) + s.conv(x)

    (branch,) = branches(
        wire, torch.randn(2, 3, 8, 8), stem=nn.Conv2d(3, 4, 1), conv=nn.Conv2d(4, 4, 2, 2)
    )  # fmt: skip
    assert branch.entry.name == "avg_pool2d"
    assert "4x8x8 becomes 4x4x4" in branch.reason


def test_what_only_the_branch_reads_of_an_earlier_value_goes_with_it():
    def wire(s, x):
        early = s.a(x)
        x = s.b(early)
        return s.d(x + s.c(x) * s.e(early))

    branch = next(b for b in branches(wire, e=nn.Linear(4, 4), **lines(n=4)) if b.entry.name == "linear_1")
    assert branch.reason is None
    assert names(branch.region) == ["add", "linear_2", "linear_3", "mul"]


def test_shape_is_symbolic_in_the_batch():
    _, program = wired(lambda s, x: s.a(x), (X,), **lines(n=1))
    node = program.node("linear")
    assert [str(size) for size in shape(node)][1:] == ["4"]
    assert not isinstance(shape(node)[0], int)
    assert shape("no node") == ()
