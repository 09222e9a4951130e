"""Every size that is baked into a graph follows the axes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sparsify as sp
from sparsify.axes import axes
from sparsify.axes.resize import Resizing, resized
from sparsify.groups import groups_of
from sparsify.shapes import propagate_shapes


class Around(nn.Module):
    """A linear layer or convolution before an operation, and one behind it."""

    def __init__(self, op, before, after):
        super().__init__()
        torch.manual_seed(0)
        self.op, self.before, self.after = op, before, after

    def forward(self, x):
        return self.after(self.op(self.before(x)))


def lines(op, before, after, *shape, kept=None):
    """Keep the first `kept` indices (half of them by default) of all free groups; return the new graph's text."""
    found = axes(sp.capture(Around(op, before, after).eval(), (torch.randn(2, *shape),)))
    keep = {}
    for group in groups_of(found):
        if not group.frozen:
            keep[group.axis] = torch.arange(group.size) < (kept or group.size // 2)
    assert keep
    small = resized(found, keep)
    propagate_shapes(small)
    small.module()(torch.randn(3, *shape))
    return str(small)


def attention(x):
    q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in x.chunk(3, -1))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


CASES = {
    "view": (lambda x: x.view(-1, 4, 6).tanh().flatten(1), nn.Linear(3, 24), nn.Linear(24, 2), (3,),
             "view(%linear, [-1, 2, 3])"),
    "view of a dynamic product": (
        lambda x: x.view(-1, 4, 6).flatten(0, 1).tanh().view(-1, 24), nn.Linear(3, 24), nn.Linear(24, 2), (3,),
        "view(%tanh, [-1, 6])"),
    "expand": (lambda x: (x[:, None].expand(-1, 4, -1) * 2).flatten(1), nn.Linear(3, 6), nn.Linear(24, 2), (3,),
               "2, -1])"),
    "split": (lambda x: torch.cat([p.tanh() for p in x.split(4, 1)], 1), nn.Linear(3, 8), nn.Linear(8, 2), (3,),
              "split_with_sizes(%linear, [2, 2], 1)"),
    "slice": (lambda x: x[:, 4:8].tanh(), nn.Linear(3, 12), nn.Linear(4, 2), (3,), ", 1, 2, 4)"),
    "narrow": (lambda x: x.narrow(1, 4, 4).tanh(), nn.Linear(3, 12), nn.Linear(4, 2), (3,), "1, 2, 2)"),
    "layer norm": (lambda x: F.layer_norm(x, (6,)), nn.Linear(3, 6), nn.Linear(6, 2), (3,), "layer_norm(%linear, [3]"),
    "group norm": (lambda x: F.group_norm(x, 4), nn.Conv1d(3, 8, 1), nn.Conv1d(8, 2, 1), (3, 5),
                   "group_norm(%conv1d, 2"),
    "conv groups": (nn.Conv1d(8, 8, 1, groups=4), nn.Conv1d(3, 8, 1), nn.Conv1d(8, 2, 1), (3, 5), "[0], [1], 2)"),
    "pad": (lambda x: F.pad(x, (0, 0, 2, 4)) + 1, nn.Conv1d(3, 6, 1), nn.Conv1d(12, 2, 1), (3, 5), "[0, 0, 1, 2]"),
    "repeat": (lambda x: x.repeat(1, 4).tanh(), nn.Linear(3, 6), nn.Linear(24, 2), (3,), "repeat(%linear, [1, 2])"),
    "zeros": (lambda x: torch.cat([x, torch.zeros(x.shape[0], 4)], 1), nn.Linear(3, 6), nn.Linear(10, 2), (3,), ", 2]"),
    "attention": (attention, nn.Linear(3, 48), nn.Linear(16, 2), (5, 3), "scale=0.353553"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_argument_has_the_new_size(name):
    op, before, after, shape, expected = CASES[name]
    assert expected in lines(op, before, after, *shape)


def test_state_is_sliced_and_the_rest_is_shared():
    model = Around(nn.BatchNorm1d(6), nn.Linear(3, 6), nn.Linear(6, 2)).eval()
    found = axes(sp.capture(model, (torch.randn(2, 3),)))
    (group,) = (group for group in groups_of(found) if not group.frozen)
    kept = torch.tensor([True, False, False, True, True, False])
    small = resized(found, {group.axis: kept})
    before = found.program
    assert torch.equal(small.parameters["before.weight"], before.parameters["before.weight"][kept])
    assert torch.equal(small.parameters["after.weight"], before.parameters["after.weight"][:, kept])
    assert torch.equal(small.buffers["op.running_mean"], before.buffers["op.running_mean"][kept])
    assert small.parameters["after.bias"] is before.parameters["after.bias"]
    assert before.parameters["before.weight"].shape == (6, 3)


def test_whether_a_parameter_trains_is_kept():
    model = Around(nn.ReLU(), nn.Linear(3, 6), nn.Linear(6, 2)).eval()
    model.before.weight.requires_grad_(False)
    found = axes(sp.capture(model, (torch.randn(2, 3),)))
    (group,) = (group for group in groups_of(found) if not group.frozen)
    small = resized(found, {group.axis: torch.arange(6) < 3})
    assert not small.parameters["before.weight"].requires_grad
    assert small.parameters["after.weight"].requires_grad


@pytest.mark.parametrize("shape", [(6,), (5, 6), (6, 5), (4, 6, 1), (6, 6, 1, 1), (3, 6, 2, 2), (2, 3, 6)])
@pytest.mark.parametrize("strides", ["as is", "backwards", "repeated"])
def test_state_of_every_layout_is_what_indexing_gives(shape, strides):
    value = torch.arange(torch.Size(shape).numel()).view(shape)
    if strides == "backwards":
        value = value.permute(*reversed(range(value.ndim))).contiguous().permute(*reversed(range(value.ndim)))
    if strides == "repeated":
        value = value.narrow(0, 0, 1).expand(shape)

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("held", value.clone().float())

        def forward(self, x):
            return x.sum() + self.held.sin()

    found = axes(sp.capture(Holder(), (torch.randn(2, 3),)))
    node = next(node for node in found.dims if node.target == "held")
    assert [axis.size for axis in found.dims[node]] == list(shape)
    chosen = {axis: torch.arange(axis.size) % 2 == 0 for axis in found.dims[node] if axis.size > 1}
    expected = value
    for dim, size in enumerate(shape):
        if size > 1:
            expected = expected.index_select(dim, torch.arange(0, size, 2))
    left = Resizing(found, chosen).state("held", value)
    assert torch.equal(left, expected)
