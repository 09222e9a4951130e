import pytest
import torch
from helpers.residual import mlp, resnet, wired
from helpers.zoo import FAMILIES, NETWORKS
from torch import nn

import sparsify as sp
from sparsify.axes import Axis, axes
from sparsify.axes.axis import product, total
from sparsify.layout import Layout
from sparsify.observation.wiring import link, stages, units


def by_name(program):
    known = stages(axes(program))
    names = [stage.layer.parameter.removesuffix(".weight") for stage in known]
    return dict(zip(names, known, strict=True)), {
        name: [names[other] for other in stage.after] for name, stage in zip(names, known, strict=True)
    }


def pairs(made):
    return {(i, int(made.units[made.start[i] + k])) for i in range(len(made.count)) for k in range(made.count[i])}


def test_a_chain():
    _, program = wired(lambda s, x: s.b(torch.relu(s.a(x))), (torch.randn(2, 3),), a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    known, after = by_name(program)
    assert after == {"a": ["b"], "b": []}
    assert [(s.first, s.last, s.reads.size, s.writes.size) for s in known.values()] == [
        (True, False, 3, 4), (False, True, 4, 2)
    ]  # fmt: skip


def test_a_residual_stream_leads_to_everything_that_reads_it_later():
    _, program = mlp(depth=2)
    known, after = by_name(program)
    assert after == {
        "stem": ["blocks.0.0", "blocks.1.0", "head"],
        "blocks.0.0": ["blocks.0.2"],
        "blocks.0.2": ["blocks.1.0", "head"],
        "blocks.1.0": ["blocks.1.2"],
        "blocks.1.2": ["head"],
        "head": [],
    }
    assert [name for name, stage in known.items() if stage.first] == ["stem"]
    assert [name for name, stage in known.items() if stage.last] == ["head"]


def test_a_shortcut_from_the_input_and_to_the_output():
    _, program = wired(lambda s, x: x + s.b(x + s.a(x)), (torch.randn(2, 4),), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    known, after = by_name(program)
    assert after["a"] == ["b"]
    assert known["b"].first
    assert not known["a"].last


def test_units_keep_their_index_through_a_residual_sum():
    _, program = mlp(depth=1)
    known, _ = by_name(program)
    assert pairs(link(known["stem"].writes, known["head"].reads)) == {(i, i) for i in range(4)}


def test_a_channel_leads_to_all_its_pixels():
    x = torch.randn(2, 1, 4, 4)
    _, program = wired(lambda s, x: s.b(s.a(x).flatten(1)), (x,), a=nn.Conv2d(1, 3, 3), b=nn.Linear(12, 2))
    known, _ = by_name(program)
    assert pairs(link(known["a"].writes, known["b"].reads)) == {(c, 4 * c + p) for c in range(3) for p in range(4)}


def test_segments_lead_to_their_own_place():
    a, b = Axis(2), Axis(3)
    joined = total([a, b])
    assert pairs(link(a, joined)) == {(0, 0), (1, 1)}
    assert pairs(link(b, joined)) == {(0, 2), (1, 3), (2, 4)}
    assert pairs(link(joined, b)) == {(2, 0), (3, 1), (4, 2)}


def test_queries_lead_to_their_head():
    heads, query, value = Axis(2), Axis(3), Axis(2)
    fused = total([product([heads, query]), product([heads, value])])
    found = pairs(link(fused, product([heads, value])))
    assert {j for i, j in found if i == 4} == {2, 3}  # unit 1 of the query of head 1
    assert {j for i, j in found if i == 7} == {1}  # unit 1 of the value of head 0


def test_axes_without_a_common_leaf_are_mixed():
    assert pairs(link(Axis(2), Axis(3))) == {(i, j) for i in range(2) for j in range(3)}


def test_following_a_link_chooses_among_the_units():
    a, b = Axis(2), Axis(3)
    made = link(a, product([a, b]))
    assert made.follow(torch.tensor([1, 1, 1, 0]), torch.tensor([0.0, 0.5, 0.9999999, 0.4])).tolist() == [3, 4, 5, 1]


LAYOUTS = {
    "linear": (nn.Linear(4, 3), Layout((0,), (1,)), (2, 4)),
    "conv": (nn.Conv2d(4, 6, 3), Layout((0,), (1,), (2, 3)), (2, 4, 5, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), Layout((0,), (1,), (2, 3), groups=2), (2, 4, 5, 5)),
    "depthwise": (nn.Conv1d(4, 8, 3, groups=4), Layout((0,), (1,), (2,), groups=4), (2, 4, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3), Layout((1, 2, 3), (0,)), (2, 4, 5, 5)),
    "grouped transposed": (
        nn.ConvTranspose1d(4, 6, 3, groups=2), Layout((1, 2), (0,), groups=2, grouped_inputs=True), (2, 4, 5)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_weight_leads_from_the_unit_that_it_reads_to_the_unit_that_it_writes(name):
    layer, layout, shape = LAYOUTS[name]
    read, written = units(layout, layer.weight.shape)
    x = torch.randn(shape)
    for index in range(0, layer.weight.numel(), 7):
        with torch.no_grad():
            layer.weight.zero_().view(-1)[index] = 1
            layer.bias.zero_()
        dim = 1
        wrote = layer(x).abs().sum([d for d in range(x.ndim) if d != dim]).nonzero().flatten()
        assert wrote.tolist() == [int(written[index])]
        closed = x.clone()
        closed[:, read[index]] = 0
        assert not layer(closed).any()


def test_experts_share_the_units_that_they_read():
    read, written = units(Layout((2,), (1,), batch=(0,)), (3, 2, 4))
    assert read.view(3, 2, 4)[1].tolist() == [[0] * 4, [1] * 4]
    assert written.view(3, 2, 4)[2].tolist() == [[0, 1, 2, 3]] * 2


def test_the_weights_of_a_recurrent_layer_follow_each_other():
    _, program = wired(lambda s, x: s.head(s.a(x)[0].mean(1)), (torch.randn(2, 5, 3),), head=nn.Linear(4, 2),
                       a=nn.GRU(3, 4, 2, batch_first=True))  # fmt: skip
    known, after = by_name(program)
    assert known["a.weight_ih_l0"].first
    assert not known["a.weight_hh_l0"].first
    assert "a.weight_hh_l0" in after["a.weight_ih_l0"]
    assert "a.weight_ih_l1" in after["a.weight_hh_l0"]
    assert after["a.weight_hh_l1"] == ["head"]


def test_an_operator_without_a_weight_that_mixes_is_passed():
    mix = torch.randn(4, 6)
    _, program = wired(lambda s, x: s.b(torch.relu(s.a(x)) @ mix), (torch.randn(2, 3),), a=nn.Linear(3, 4),
                       b=nn.Linear(6, 2))  # fmt: skip
    known, after = by_name(program)
    assert after["a"] == ["b"]
    assert pairs(link(known["a"].writes, known["b"].reads)) == {(i, j) for i in range(4) for j in range(6)}


@pytest.mark.parametrize("name", ["bert", "gpt2", "mixtral", "t5", "convnext", "swin", "lstm-classifier"])
def test_every_layer_of_a_family_is_reached_and_leads_on(name):
    model, args, kwargs = {**FAMILIES, **NETWORKS}[name]()
    known = stages(axes(sp.capture(model, args, kwargs)))
    reached = {other for stage in known for other in stage.after}
    assert all(stage.first or number in reached for number, stage in enumerate(known))
    assert all(stage.last or stage.after for stage in known)
    assert all(other > number for number, stage in enumerate(known) for other in stage.after)


def test_a_projection_shortcut_is_a_way_of_its_own():
    _, program = resnet()
    _, after = by_name(program)
    assert {"layer2.0.conv1", "layer2.0.downsample.0"} <= set(after["layer1.1.conv2"])
