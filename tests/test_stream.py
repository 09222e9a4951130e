import torch
from helpers.residual import lines, wired
from torch import nn

from sparsify.stream import Stream

X = torch.randn(2, 4)


def stream_of(wire, *inputs, **parts):
    _, program = wired(wire, inputs, **parts)
    return Stream(program), program.node


def names(nodes):
    return [node.name for node in nodes]


def test_the_stream_holds_activations_in_order():
    stream, _ = stream_of(lambda s, x: s.b(s.a(x).relu()), X, **lines(n=2))
    assert names(stream.nodes) == ["inputs_0", "linear", "relu", "linear_1"]
    assert list(stream.nodes.values()) == [0, 1, 2, 3]


def test_masks_of_tokens_and_tables_are_not_part_of_it():
    def wire(s, ids):
        mask = (ids > 3).float().unsqueeze(-1)
        table = torch.arange(4.0) * ids.new_ones(1)
        return s.a(s.e(ids) * mask + table)

    stream, _ = stream_of(wire, torch.randint(0, 9, (2, 5)), e=nn.Embedding(9, 4), a=nn.Linear(4, 4))
    assert names(stream.nodes) == ["embedding", "mul_1", "add", "linear"]


def test_dominators():
    def wire(s, x):
        x = s.a(x)
        return s.d(s.b(x) + s.c(x))

    stream, node = stream_of(wire, X, **lines(n=4))
    a, b, c, both = (node(name) for name in ("linear", "linear_1", "linear_2", "add"))
    assert stream.dominates(a, both)
    assert stream.dominates(a, a)
    assert not stream.dominates(b, both)
    assert not stream.dominates(both, a)
    assert stream.common_dominator([b, c]) is a
    assert stream.common_dominator([both, c]) is a
    assert stream.common_dominator([a, both]) is a


def test_two_inputs_have_no_common_dominator():
    stream, node = stream_of(lambda s, x, y: s.a(x) + s.b(y), X, X + 1, **lines(n=2))
    assert stream.common_dominator([node("linear"), node("linear_1")]) is None


def test_between_leaves_out_the_start_and_side_inputs():
    def wire(s, x):
        x = s.a(x)
        y = s.b(x)
        return s.d(x * s.c(y).relu())

    stream, node = stream_of(wire, X, **lines(n=4))
    assert names(stream.between(node("linear_1"), [node("mul")])) == ["linear_2", "relu", "mul"]
    assert names(stream.between(node("linear"), [node("linear_2")])) == ["linear_1", "linear_2"]


def test_parameters_in_order_and_those_that_are_shared():
    def wire(s, x):
        x = s.a(x)
        return s.c(s.a(s.b(x)))

    stream, node = stream_of(wire, X, **lines(n=3))
    region = stream.between(node("linear"), [node("linear_2")])
    assert sorted(stream.parameters(region)) == ["a.bias", "a.weight", "b.bias", "b.weight"]
    assert stream.own_parameters(region) == ["b.weight", "b.bias"]


def test_a_parameter_that_is_also_an_output_is_not_owned():
    stream, node = stream_of(lambda s, x: (s.b(s.a(x)), s.b.weight), X, **lines(n=2))
    assert stream.own_parameters([node("linear_1")]) == ["b.bias"]


def test_a_parameter_is_read_through_what_is_computed_from_it_alone():
    stream, node = stream_of(lambda s, x: nn.functional.linear(s.a(x), (s.b.weight * 2).relu()), X, **lines(n=2))
    assert stream.readers["b.weight"] == {node("linear_1")}


def test_enclosed_adds_what_only_the_branch_reads():
    def wire(s, x, y):
        memory = s.a(y)
        x = s.b(x)
        return s.d(x * s.c(memory)) + memory.sum()

    stream, node = stream_of(wire, X, X + 1, **lines(n=4))
    region, cut_off = stream.enclosed(node("linear_1"), [node("linear_3")])
    assert cut_off is None
    assert names(sorted(region, key=stream.nodes.__getitem__)) == ["linear_2", "mul", "linear_3"]


def test_enclosed_tells_what_would_be_cut_off():
    stream, node = stream_of(lambda s, x, y: s.b(x) * s.a(y), X, X + 1, **lines(n=2))
    region, cut_off = stream.enclosed(node("linear"), [node("mul")])
    assert cut_off.op == "placeholder"
    assert names(region) == ["mul"]


def test_origin_walks_over_casts_that_change_nothing():
    def wire(s, x):
        x = s.a(x)
        return s.b(x.to(torch.float32).contiguous()) + x.to(torch.float64)

    stream, node = stream_of(wire, X, **lines(n=2))
    casts = [n for n in stream.nodes if "to" in str(n.target)]
    assert [stream.origin(cast) is node("linear") for cast in casts] == [True, False]
