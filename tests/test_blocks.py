import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.residual import Mlp, lines, mlp, resnet, wired
from torch import nn

from sparsify.blocks import blocks
from sparsify.capture import capture

X = torch.randn(2, 4)


def names(found):
    return [block.name for block in found]


def found(wire, *inputs, granularity="sublayer", **parts):
    _, program = wired(wire, inputs or (X,), **parts)
    return blocks(program, granularity)


def test_the_blocks_of_a_residual_mlp():
    _, program = mlp()
    block = blocks(program)[1]
    assert names(blocks(program)) == ["blocks.0", "blocks.1", "blocks.2"]
    assert block.parameters == ("blocks.1.0.weight", "blocks.1.0.bias", "blocks.1.2.weight", "blocks.1.2.bias")
    assert (block.entry, block.exit) == ("add", "add_1")
    assert (block.removable, block.reason, block.shortcut, block.contains) == (True, None, "identity", ())


def test_the_blocks_of_a_resnet_end_before_the_relu():
    _, program = resnet()
    found = {block.name: block for block in blocks(program)}
    assert list(found) == ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    assert [block.removable for block in found.values()] == [True, True, False, True]
    assert program.node(found["layer1.1"].exit).target is torch.ops.aten.add.Tensor
    assert program.node(found["layer1.1"].entry).target is torch.ops.aten.relu.default
    assert len(found["layer1.1"].parameters) == 6


def test_a_downsampling_block_says_why_it_stays():
    block = blocks(resnet()[1])[2]
    assert block.shortcut == "projection"
    assert block.reason == (
        "its shortcut is not the identity (4x8x8 becomes 6x4x4); shortcut=keep drops the branch only"
    )
    assert all("downsample" not in name for name in block.parameters)


FORMS = {
    "operator": lambda s, x: s.c((y := s.a(x)) + s.b(y)),
    "reversed": lambda s, x: s.c(s.b(y := s.a(x)) + y),
    "torch.add": lambda s, x: s.c(torch.add(y := s.a(x), s.b(y))),
    "method": lambda s, x: s.c((y := s.a(x)).add(s.b(y))),
    "dropout": lambda s, x: s.c((y := s.a(x)) + F.dropout(s.b(y), 0.1, s.training)),
    "layer scale": lambda s, x: s.c((y := s.a(x)) + s.scale.weight * s.b(y)),
    "gated": lambda s, x: s.c((y := s.a(x)) + s.gate(y).sigmoid() * s.b(y)),
    "scalar gate": lambda s, x: s.c((y := s.a(x)) + s.scale.bias * s.b(y)),
}
OWN = {"layer scale": "b+scale", "gated": "gate+b", "scalar gate": "b"}


def parts():
    return {**lines(n=3), "gate": nn.Linear(4, 4), "scale": nn.Linear(4, 1)}


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_write_a_branch(form):
    (block,) = found(FORMS[form], **parts())
    assert block.removable
    assert block.name == OWN.get(form, "b")
    assert {"b.weight", "b.bias"} <= set(block.parameters)
    assert not {"a.weight", "c.weight"} & set(block.parameters)


class DropPath(nn.Module):
    def forward(self, x):
        if not self.training:
            return x
        keep = 0.9 + torch.rand(x.shape[0], 1, dtype=x.dtype)
        return x.div(0.9) * keep.floor()


def test_stochastic_depth_on_the_branch_and_plus_equals():
    def wire(s, x):
        x = s.a(x)
        for part in (s.b, s.c):
            residual = x
            x = s.drop(part(x))
            x += residual
        return s.d(x)

    layers = found(wire, drop=DropPath(), **lines(n=4))
    assert names(layers) == ["b", "c"]
    assert all(block.removable for block in layers)


def test_squeeze_and_excite_inside_an_inverted_bottleneck():
    def wire(s, x):
        x = s.stem(x)
        y = F.relu6(s.expand(x))
        y = s.dw(y)
        y = y * s.se(y.mean((2, 3), keepdim=True)).sigmoid()
        return x + s.project(y)

    conv = nn.Conv2d
    (block,) = found(
        wire, torch.randn(2, 3, 4, 4),
        stem=conv(3, 4, 1), expand=conv(4, 8, 1), dw=conv(8, 8, 3, 1, 1, groups=8), se=conv(8, 8, 1),
        project=conv(8, 4, 1),
    )  # fmt: skip
    assert block.removable
    assert block.name == "expand+dw+se+project"
    assert len(block.parameters) == 8


@pytest.mark.parametrize(
    "order",
    [
        lambda x, f, g: x + f + g,
        lambda x, f, g: f + g + x,
        lambda x, f, g: f + x + g,
        lambda x, f, g: f + (x + g),
        lambda x, f, g: x + (g + f),
    ],
)
def test_parallel_branches_are_one_block_in_every_order(order):
    def wire(s, x):
        x = s.stem(x)
        for layer in s.h:
            x = order(x, layer["attn"](x), layer["mlp"](x))
        return s.head(x)

    h = nn.ModuleList(nn.ModuleDict({"attn": nn.Linear(4, 4), "mlp": nn.Linear(4, 4)}) for _ in range(2))
    layers = found(wire, stem=nn.Linear(4, 4), h=h, head=nn.Linear(4, 2))
    assert names(layers) == ["h.0", "h.1"]
    assert all(block.removable and len(block.parameters) == 4 and not block.contains for block in layers)


def test_nested_residuals_are_found_inside_and_outside():
    def wire(s, x):
        x = s.a(x)
        h = s.b(x)
        h = h + s.c(h)
        return s.d(x + h)

    inner, outer = found(wire, **lines(n=4))
    assert (inner.name, inner.removable, inner.contains) == ("c", True, ())
    assert (outer.name, outer.removable, outer.contains) == ("b+c", True, ("c",))


def test_a_long_additive_skip_contains_the_blocks_it_spans():
    def wire(s, x):
        x = skip = s.a(x)
        x = s.b(x)
        for block in s.blocks:
            x = x + block(x).relu()
        return s.c(x + skip)

    stack = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    *inner, outer = found(wire, blocks=stack, **lines(n=3))
    assert names(inner) == ["blocks.0", "blocks.1", "blocks.2"]
    assert outer.contains == ("blocks.0", "blocks.1", "blocks.2")
    layers = found(wire, blocks=stack, granularity="layer", **lines(n=3))
    assert layers[-1].contains == ("blocks.0", "blocks.1", "blocks.2")


REFUSED = {
    "an inner value is an output": (lambda s, x: (s.c((y := s.a(x)) + (z := s.b(y))), z), "linear_1", "output"),
    "an inner value is used later": (lambda s, x: s.c((y := s.a(x)) + (z := s.b(y))) * z, "linear_1", "mul"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_exit(case):
    wire, inner, reader = REFUSED[case]
    block = found(wire, **lines(n=3))[0]
    assert not block.removable
    assert block.reason == f"its inner value {inner} is also read by {reader}"


def test_the_shape_of_an_inner_value_may_be_read_inside_only():
    def inside(s, x):
        x = s.a(x)
        y = s.b(x)
        return s.c(x + y.reshape(y.shape[0], 2, 2).flatten(1))

    def outside(s, x):
        x = s.a(x)
        y = s.b(x)
        return s.c(x + y) * torch.ones(y.shape[0] * 1, 1)

    assert found(inside, **lines(n=3))[0].removable
    assert found(outside, **lines(n=3))[0].removable


def test_one_entry():
    def wire(s, x, label):
        x = s.a(x)
        return s.c(x + s.b(x) * s.e(label))

    block = found(wire, X, torch.tensor([0, 1]), e=nn.Embedding(3, 4), **lines(n=3))[0]
    assert not block.removable
    assert block.reason == "its branch also reads embedding, which nothing else reads"


NO_BLOCKS = {
    "no parameters": lambda s, x: s.b(0.5 * (y := s.a(x)) * (1 + torch.tanh(0.8 * (y + 0.04 * y**3)))),
    "rotary": lambda s, x: s.b((y := s.a(x)) * 0.5 + torch.cat([-y[:, 2:], y[:, :2]], 1) * 0.5),
    "concatenation": lambda s, x: s.wide(torch.cat([y := s.a(x), s.b(y)], 1)),
    "broadcasting": lambda s, x: s.b((y := s.a(x)) + s.one(y)),
    "a difference": lambda s, x: s.b((y := s.a(x)) - s.c(y)),
    "a scaled sum": lambda s, x: s.b(torch.add(y := s.a(x), s.c(y), alpha=2)),
    "x + x": lambda s, x: s.b((y := s.a(x)) + y),
    "another type": lambda s, x: s.b(((y := s.a(x)).half() + s.c(y)).float()),
    "two projections": lambda s, x: s.d(s.a(x) + s.b(x)),
}


@pytest.mark.parametrize("case", NO_BLOCKS)
def test_what_is_not_a_block(case):
    assert found(NO_BLOCKS[case], one=nn.Linear(4, 1), wide=nn.Linear(8, 2), **lines(n=4)) == []


def test_the_entry_may_be_an_input():
    layers = found(lambda s, x: s.b(y := x + s.a(x)) + y, **lines(n=2))
    assert names(layers) == ["a", "b"]
    assert layers[0].entry == "inputs_0"


def encoder(norm_first, depth=2):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)


@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_of_an_encoder_hold_all_their_parameters(norm_first):
    model = nn.Sequential(encoder(norm_first), nn.Linear(8, 2))
    program = capture(model, (torch.randn(2, 5, 8),))
    layers, sublayers = blocks(program), blocks(program, "sublayer")
    assert names(layers) == ["0.layers.0", "0.layers.1"]
    assert layers[0].sublayers == ("0.layers.0.self_attn", "0.layers.0.linear1+linear2")
    every = {name for name, _ in model.named_parameters()}
    assert set(layers[1].parameters) == {name for name in every if name.startswith("0.layers.1.")}
    norms = {name for block in sublayers for name in block.parameters if "norm" in name}
    assert bool(norms) is norm_first  # the norm behind the sum belongs to the layer, not to the sublayer


def transformer(decoder_layers):
    class Seq2Seq(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Embedding(10, 8)
            self.t = nn.Transformer(8, 2, 1, decoder_layers, 16, batch_first=True)

        def forward(self, source, target):
            return self.t(self.e(source), self.e(target))

    ids = torch.randint(0, 10, (2, 5))
    return Seq2Seq(), (ids, ids.clone())


def test_cross_attention_brings_its_keys_and_values():
    model, inputs = transformer(2)
    program = capture(model, inputs)
    decoder = [block for block in blocks(program) if "decoder" in block.name]
    assert names(decoder) == ["t.decoder.layers.0", "t.decoder.layers.1"]
    assert all(block.removable and len(block.parameters) == 18 for block in decoder)
    assert all(block.removable for block in blocks(program, "sublayer"))


def test_the_only_cross_attention_is_refused():
    model, inputs = transformer(1)
    layer = blocks(capture(model, inputs))[-1]
    assert layer.name == "t.decoder.layers.0"
    assert not layer.removable
    assert layer.reason.startswith("in t.decoder.layers.0.multihead_attn")
    assert layer.reason.endswith("its branch also reads embedding, which nothing else reads")


def test_shared_layers_are_counted_one_by_one_and_own_nothing():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.groups = nn.ModuleList([nn.ModuleDict({"attn": nn.Linear(4, 4), "mlp": nn.Linear(4, 4)})])

        def forward(self, x):
            x = self.stem(x)
            for _ in range(3):
                x = x + self.groups[0]["attn"](x).tanh()
                x = x + self.groups[0]["mlp"](x).tanh()
            return x

    layers = blocks(capture(Shared(), (X,)))
    assert names(layers) == ["groups.0#1", "groups.0#2", "groups.0#3"]
    assert layers[1].sublayers == ("groups.0.attn#2", "groups.0.mlp#2")
    assert all(block.parameters == () for block in layers)


def test_a_layer_of_numbered_sublayers():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.ModuleList(nn.ModuleDict({name: nn.Linear(4, 4)}) for name in ("attention", "dense"))

        def forward(self, x):
            return (y := x + self.layer[0]["attention"](x)) + self.layer[1]["dense"](y)

    model = nn.Sequential(nn.Linear(4, 4), Block(), Block())
    layers = blocks(capture(model, (X,)))
    assert names(layers) == ["1", "2"]
    assert layers[0].sublayers == ("1.layer.0.attention", "1.layer.1.dense")


def test_names_are_distinct_and_the_answer_is_the_same_in_every_process():
    text = (
        "import torch; from helpers.residual import resnet; from sparsify.blocks import blocks; "
        "print(*[b for g in ('layer', 'sublayer') for b in blocks(resnet()[1], g)], sep='\\n')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(Path(__file__).parent)}
    other = subprocess.run([sys.executable, "-c", text], env=environment, check=True, capture_output=True, text=True)
    here = [block for granularity in ("layer", "sublayer") for block in blocks(resnet()[1], granularity)]
    assert other.stdout.splitlines() == list(map(str, here))
    assert len(set(names(here))) == len(here) // 2  # a layer with one sublayer is called what its sublayer is called


def test_names_and_order_survive_the_removal_of_another_block():
    model = Mlp()
    before = blocks(capture(model, (torch.randn(2, 3),)))
    del model.blocks[2]
    assert names(blocks(capture(model, (torch.randn(2, 3),)))) == names(before)[:2]
