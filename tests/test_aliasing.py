import torch
from torch import fx

from sparsify.aliasing import bases, live, source, written

aten = torch.ops.aten


def build():
    graph = fx.Graph()
    x = graph.placeholder("x")
    count = graph.create_node("get_attr", "norm.count", name="count")
    weight = graph.create_node("get_attr", "norm.weight", name="weight")
    y = graph.call_function(aten.mul.Tensor, (x, weight))
    column = graph.call_function(aten.select.int, (y, 1, 0))
    write = graph.call_function(aten.add_.Tensor, (column, 1))
    again = graph.call_function(aten.mul_.Tensor, (write, 2))
    counting = graph.call_function(aten.add_.Tensor, (count, 1))
    unread = graph.call_function(aten.relu.default, (x,))
    into_unread = graph.call_function(aten.add_.Tensor, (unread, 1))
    out = graph.call_function(aten.div.out, (x, x), {"out": count})
    graph.output((y,))
    return graph, x, count, y, column, write, again, counting, unread, into_unread, out


def test_views_and_writes_share_the_memory_of_their_base():
    graph, x, count, y, column, write, again, counting, unread, into_unread, out = build()
    base = bases(graph)
    assert source(y) is None
    assert [base[node] for node in (y, column, write, again)] == [y] * 4
    assert base[counting] is base[out] is count
    assert base[into_unread] is unread
    assert base[x] is x


def test_written_arguments():
    _, _, count, y, column, write, *_, out = build()
    assert written(y) == []
    assert written(write) == [column]
    assert written(out) == [count]


def test_a_write_lives_as_long_as_the_memory_or_its_module():
    graph, *_, y, column, write, again, counting, unread, into_unread, out = build()
    assert live(graph) >= {y, column, write, again, counting, out}
    assert not live(graph) & {unread, into_unread}


def test_dropout_may_return_its_input():
    graph = fx.Graph()
    x = graph.placeholder("x")
    assert source(graph.call_function(aten.dropout.default, (x, 0.5, False))) is x
