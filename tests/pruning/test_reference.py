"""What a network computes without some indices, worked out by hand."""

import torch
from torch import nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.groups import groups_of
from sparsify.pruning.reference import member_masks, reference_outputs


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2)
        nn.init.normal_(self.norm.weight), nn.init.normal_(self.norm.bias)

    def forward(self, x):
        return self.b(torch.softmax(self.norm(self.a(x)), -1))


def test_a_norm_and_a_softmax_see_the_kept_channels_only():
    model = Normed().eval()
    x = torch.randn(4, 3)
    found = axes(sp.capture(model, (x,)))
    group = next(group for group in groups_of(found) if not group.frozen)
    assert not group.exact
    kept = torch.tensor([True, False, True, True, False, True])
    (result,) = reference_outputs(found, {group.axis: kept}, [x])
    hidden = torch.nn.functional.linear(x, model.a.weight[kept], model.a.bias[kept])
    hidden = torch.nn.functional.layer_norm(hidden, (4,), model.norm.weight[kept], model.norm.bias[kept])
    torch.testing.assert_close(result, hidden.softmax(-1) @ model.b.weight[:, kept].T + model.b.bias)


def test_the_masks_of_all_members():
    found = axes(sp.capture(Normed().eval(), (torch.randn(4, 3),)))
    group = next(group for group in groups_of(found) if not group.frozen)
    kept = torch.tensor([True, False, True, True, False, True])
    masks = member_masks(found, {group.axis: kept})
    assert set(masks) == {"a.weight", "a.bias", "norm.weight", "norm.bias", "b.weight"}
    assert torch.equal(masks["a.weight"], kept[:, None].expand(6, 3))
    assert torch.equal(masks["b.weight"], kept.expand(2, 6))
    assert torch.equal(masks["norm.bias"], kept)


def test_both_dimensions_of_a_square_weight():
    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.w, self.b = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.a(x)
            return self.b(x + self.w(x))

    found = axes(sp.capture(Square(), (torch.randn(2, 3),)))
    group = next(group for group in groups_of(found) if not group.frozen)
    kept = torch.tensor([True, False, True, True])
    assert torch.equal(member_masks(found, {group.axis: kept})["w.weight"], kept[:, None] & kept[None])
