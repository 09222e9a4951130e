"""Recurrent layers: all gates, layers and directions share the hidden units."""

from __future__ import annotations

from typing import Any

from sparsify.axes.axis import Axis, product
from sparsify.axes.op import Op, axis_rule, fresh

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@axis_rule("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu")
def recurrent(op: Op) -> Any:
    """Weights [gates x hidden, in] and [gates x hidden, hidden]; states [layers x directions, batch, hidden]."""
    name, _, overload = op.name.partition(".")
    if overload != "input":
        return _frozen(op, "it runs through a recurrent layer of packed sequences")
    x, states, weights, has_biases, layers, _, _, bidirectional, batch_first = (op.arg(index) for index in range(9))
    states = list(states) if isinstance(states, (list, tuple)) else [states]
    directions, per_direction = (2 if bidirectional else 1), (4 if has_biases else 2)
    if len(weights) != per_direction * directions * layers:
        return _frozen(op, "it runs through a recurrent layer with projections")
    hidden = fresh(op.dims(weights[1])[1].size)
    gates = Axis(_GATES[name], "it is a gate")
    input_axis = op.dims(x)[-1]
    for layer in range(layers):
        for direction in range(directions):
            start = (layer * directions + direction) * per_direction
            w_ih, w_hh, *biases = weights[start : start + per_direction]
            op.same(op.dims(w_ih)[0], product([gates, hidden]))
            op.same(op.dims(w_hh)[0], product([gates, hidden]))
            op.same(op.dims(w_hh)[1], hidden)
            op.same(op.dims(w_ih)[1], input_axis)
            op.sums([input_axis], w_ih, *([x] if layer == 0 else []))
            op.sums([hidden], w_hh)
            for bias in biases:
                op.same(op.dims(bias)[0], product([gates, hidden]))
        input_axis = product([Axis(2, "it is a direction"), hidden]) if bidirectional else hidden
    first, second, _ = op.dims(x)
    time, batch = (second, first) if batch_first else (first, second)
    op.freeze([time], "a recurrent layer runs along it")
    for state in states:
        op.same(op.dims(state)[1], batch)
        op.same(op.dims(state)[2], hidden)
        op.freeze(op.dims(state)[:1], "it is a layer or a direction")
    op.zero_where(addends=[*weights, *states])
    state_dims = op.dims(states[0])
    return ([first, second, input_axis], *(list(state_dims) for _ in states))


def _frozen(op: Op, reason: str) -> Any:
    for value in op.node.all_input_nodes:
        op.freeze(op.dims(value), reason)
    return tuple([fresh(size, reason) for size in value.shape] for value in op.node.meta["val"])


@axis_rule("aten::lstm_cell", "aten::gru_cell", "aten::rnn_tanh_cell", "aten::rnn_relu_cell")
def cell(op: Op) -> Any:
    """One step of the above; the states are [batch, hidden]."""
    x, states, w_ih, w_hh = (op.arg(index) for index in range(4))
    biases = [bias for bias in (op.arg(4, "b_ih"), op.arg(5, "b_hh")) if bias is not None]
    states = list(states) if isinstance(states, (list, tuple)) else [states]
    hidden = op.dims(w_hh)[1]
    rows = product([Axis(op.dims(w_hh)[0].size // hidden.size, "it is a gate"), hidden])
    for value in (w_ih, w_hh, *biases):
        op.same(op.dims(value)[0], rows)
    op.same(op.dims(w_ih)[1], op.dims(x)[-1])
    op.sums([op.dims(x)[-1]], x, w_ih)
    for state in states:
        op.same(op.dims(state)[0], op.dims(x)[0])
        op.same(op.dims(state)[1], hidden)
    op.sums([hidden], w_hh, states[0])
    op.zero_where(addends=[w_ih, w_hh, *biases, *states])
    results = [list(op.dims(state)) for state in states]
    return results[0] if len(results) == 1 else tuple(results)
