"""What attributes of modules and configurations become when the parameters beside them shrink."""

from types import SimpleNamespace

import pytest
import torch
from helpers.writing import captured, differences, halved, zoo_entry
from torch import nn

import sparsify as sp
from sparsify.writing.attributes import choices
from sparsify.writing.new_sizes import NewSizes


def first_options(model, sizes):
    """Return what the likeliest options set, by name of the attribute."""
    found = {}
    for choice in choices(model, sizes):
        for slot, value in zip(choice.slots, choice.options[0], strict=True):
            found.setdefault(slot.key, {})[slot.value] = value
    return found


@pytest.mark.parametrize(
    ("name", "kinds", "expected"),
    [
        ("gpt2", ("heads",), {"num_heads": {4: 2}, "split_size": {48: 24}, "embed_dim": {48: 48}, "n_head": {4: 2}}),
        ("gpt2", ("stream",), {"num_heads": {}, "split_size": {48: 48}, "embed_dim": {48: 24}, "n_embd": {48: 24}}),
        ("llama", ("kv-groups",), {"num_key_value_heads": {2: 1}, "num_attention_heads": {4: 2}, "head_dim": {}}),
        ("llama", ("heads",), {"num_key_value_groups": {2: 1}, "num_attention_heads": {4: 2}}),
        ("llama", ("channels",), {"intermediate_size": {80: 40}, "hidden_size": {}, "num_hidden_layers": {}}),
    ],
)
def test_names_say_which_size_an_attribute_is(name, kinds, expected):
    model, found, groups = zoo_entry(name)
    sizes = NewSizes(found, halved(found, [group for group in groups if group.kind in kinds]))
    options = first_options(model, sizes)
    assert {key: options.get(key, {}) for key in expected} == expected


class Attention(nn.Module):
    """Calls its number of heads a name that says nothing; another number happens to be the same."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.layer_idx = 4, 4, 4
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 5)

    def forward(self, x):
        x = self.a * x
        q, k, v = self.qkv(x).unflatten(-1, (3, self.b, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


def test_a_name_that_says_nothing_is_tried():
    torch.manual_seed(0)
    model = Attention().eval()
    found, groups = captured(model, torch.randn(2, 5, 24) / 24)
    small = halved(found, [group for group in groups if group.kind == "heads"])
    assert [slot.key for choice in choices(model, NewSizes(found, small)) for slot in choice.slots] == ["a", "b"]
    sp.write_back(small, model)
    assert (model.a, model.b, model.layer_idx) == (4, 2, 4)
    assert max(differences(small, model)) <= 1


class Configured(nn.Module):
    """Reads sizes from a configuration when it runs, and from a list."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=12, widths=[7, 12], num_layers=12, name="x")
        self.sizes = (7, 12)
        self.first, self.second, self.third = nn.Linear(5, 7), nn.Linear(7, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = torch.relu(self.first(x)).reshape(-1, self.sizes[0])
        x = torch.relu(self.second(x)).reshape(-1, self.config.widths[1])
        return self.third(x.reshape(-1, self.config.hidden_size))


def test_configurations_and_lists_follow():
    torch.manual_seed(0)
    model = Configured().eval()
    found, groups = captured(model, torch.randn(2, 5))
    sp.write_back(halved(found, groups), model)
    assert vars(model.config) == {"hidden_size": 6, "widths": [3, 6], "num_layers": 12, "name": "x"}
    assert model.sizes == (3, 6)


class Layers(nn.Module):
    """Layers of one class, whose attribute is one of two sizes that are equal."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 8)
            self.what = 8

        def forward(self, x):
            return x + self.down(torch.relu(self.up(x)).reshape(-1, self.what))

    def __init__(self):
        super().__init__()
        self.stem, self.layers, self.head = nn.Linear(5, 8), nn.Sequential(*(self.Layer() for _ in range(5))), None
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layers(self.stem(x)))


def test_layers_of_a_class_choose_the_same():
    torch.manual_seed(0)
    model = Layers().eval()
    found, groups = captured(model, torch.randn(2, 5))
    inner = [group for group in groups if group.kind == "channels"]
    small = halved(found, inner)
    assert len(choices(model, NewSizes(found, small))) == 1
    sp.write_back(small, model)
    assert [layer.what for layer in model.layers] == [4] * 5
    assert max(differences(small, model)) <= 1
