"""Floors: the sizes that groups may be pruned to."""

import pytest
import torch
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.groups import groups_of
from sparsify.pruning.floors import Floor, floors


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
        group = groups[name]
        return floors([group], **{"round_to": 1, "max_sparsity": 0.9, "minimum": 1, **options})[group.axis]

    stream = groups["model.embed_tokens"]
    assert floor("model.embed_tokens") == Floor(stream.size, 1, -(-stream.size // 10))
    assert floor("model.embed_tokens", round_to=8).step == 8
    assert floor("model.embed_tokens", minimum=17, round_to=8).least == 24
    assert floor("model.embed_tokens", minimum=10_000).least == stream.size
    rotary = next(group for group in groups.values() if group.kind == "head-dim" and "q_proj" in group.name)
    assert floor(rotary.name, round_to=2).step == 1  # a pair is two positions


class Heads(nn.Module):
    """Attention with 8 heads of width 16 on a stream of 128."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(12, 128)
        self.qkv, self.out = nn.ModuleList(nn.Linear(128, 128) for _ in range(3)), nn.Linear(128, 128)
        self.head = nn.Linear(128, 5)

    def forward(self, x):
        x = self.stem(x)
        q, k, v = (layer(x).unflatten(-1, (8, 16)).transpose(1, 2) for layer in self.qkv)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head(torch.relu(x + self.out(attended.transpose(1, 2).flatten(2))))


@pytest.mark.parametrize("sparsity", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_dimensions_that_are_products_are_multiples_too(sparsity, scope):
    program = sp.capture(Heads(), (torch.randn(2, 6, 12),))
    spec = f"channel-prune:sparsity={sparsity},round_to=8,units=all,scope={scope}"
    small = sp.run(program, [spec, "shrink"]).program
    assert sum(v.numel() for v in small.parameters.values()) < sum(v.numel() for v in program.parameters.values())
    for name, value in small.parameters.items():
        for new, old in zip(value.shape, program.parameters[name].shape, strict=True):
            assert new == old or new % 8 == 0, (name, tuple(value.shape))


@pytest.mark.parametrize("name", ["llama", "bert", "vit", "resnet", "regnet", "swin", "mixtral"])
def test_every_width_of_a_family_is_a_multiple(name):
    model, args, kwargs = FAMILIES[name]()
    program = sp.capture(model, args, kwargs)
    small = sp.run(program, ["channel-prune:sparsity=0.3,round_to=4,units=all", "shrink"]).program
    for key, value in small.parameters.items():
        for new, old in zip(value.shape, program.parameters[key].shape, strict=True):
            assert new == old or new % 4 == 0, (key, tuple(value.shape))
