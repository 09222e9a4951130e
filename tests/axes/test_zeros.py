"""Where masking is removing, and where it is not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sparsify as sp
from sparsify.axes import axes
from sparsify.axes.zeros import Flow, free_leaves, supposed
from sparsify.groups import groups_of


class Between(nn.Module):
    def __init__(self, op, width=6, out=6, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.op, self.a, self.b = op, nn.Linear(3, width), nn.Linear(out, 2)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.b(self.op(self, self.a(x)))


def notes(op, **options):
    found = axes(sp.capture(Between(op, **options).eval(), (torch.randn(2, 3),)))
    return [group.note for group in groups_of(found) if not group.frozen]


EXACT = {
    "relu": lambda s, x: x.relu(),
    "sigmoid into a weighted sum": lambda s, x: x.sigmoid(),
    "a product with anything": lambda s, x: x * x.exp(),
    "a sum of products": lambda s, x: x * (x * x).sum(1, keepdim=True),
    "a norm over all": lambda s, x: x / x.norm(dim=1, keepdim=True),
    "a residual": lambda s, x: x + x.tanh(),
    "a stream with its own layer": lambda s, x: x + s.w(x),
    "a mask of the user": lambda s, x: torch.where(x > 0, x, 0.0),
}
COUNTED = {
    "softmax": (lambda s, x: x.softmax(1), "aten::softmax depends on how many"),
    "layer norm": (lambda s, x: F.layer_norm(x, (6,)), "aten::layer_norm depends on how many"),
    "mean": (lambda s, x: x * x.mean(1, keepdim=True), "aten::mean depends on how many"),
    "maximum": (lambda s, x: x * x.amax(1, keepdim=True), "aten::amax depends on how many"),
    "a sum of sigmoids": (lambda s, x: x * x.sigmoid().sum(1, keepdim=True), "aten::sum sums over it values"),
    "a sum behind an offset": (lambda s, x: x * (x + 1).sum(1, keepdim=True), "aten::sum sums over it values"),
    "a logarithm": (lambda s, x: x * x.abs().log(), "aten::log is not finite at zero"),
    "a quotient": (lambda s, x: 1 / x, "is not finite at zero"),
    "what its own layer makes of zeros": (  # x is zero where w x is not: w is masked, but its bias is not of the group
        lambda s, x: x * (x @ s.square.sigmoid()).sum(1, keepdim=True), "aten::sum sums over it values"),
}  # fmt: skip
PARTS = {"w": nn.Linear(6, 6), "square": nn.Parameter(torch.randn(6, 6))}


@pytest.mark.parametrize("name", EXACT)
def test_zeros_stay_zeros(name):
    assert set(notes(EXACT[name], **PARTS)) == {""}


@pytest.mark.parametrize("name", COUNTED)
def test_something_tells_masking_from_removing(name):
    op, reason = COUNTED[name]
    found = [note for note in notes(op, **PARTS) if note]
    assert found, name
    assert all(reason in note for note in found)


def test_removable_is_what_the_masks_allow():
    found = axes(sp.capture(Between(lambda s, x: x.relu()).eval(), (torch.randn(2, 3),)))
    group = next(group for group in groups_of(found) if not group.frozen)
    dead = torch.tensor([True, False, True, False, False, False])
    weight = next(node for node in found.dims if node.target == "b.weight")
    flow = Flow(found, {weight: {group.axis: dead}}.get)
    assert torch.equal(flow.removable[group.axis], dead)
    assert Flow(found, {}.get).removable[group.axis] is False


def test_the_nodes_that_tell_are_named():
    found = axes(sp.capture(Between(lambda s, x: x.softmax(1)).eval(), (torch.randn(2, 3),)))
    (node,) = supposed(found).broken
    assert node.name == "softmax"
    assert supposed(found).broken[node] == free_leaves(found.dims[node])
