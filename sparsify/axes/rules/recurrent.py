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
    x, states, weights, has_biases, layers, _, _, bidirectional = (op.arg(index) for index in range(8))
    states = list(states) if isinstance(states, (list, tuple)) else [states]
    directions, per_direction = (2 if bidirectional else 1), (4 if has_biases else 2)
    if len(weights) != per_direction * directions * layers:
        return _frozen(op, "it runs through a recurrent layer with projections")
    hidden = Axis(op.dims(weights[1])[1].size)
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
            for bias in biases:
                op.same(op.dims(bias)[0], product([gates, hidden]))
        input_axis = product([Axis(2, "it is a direction"), hidden]) if bidirectional else hidden
    for state in states:
        op.same(op.dims(state)[-1], hidden)
    op.zero_where(addends=[*weights, *states])
    batch = op.dims(x)[:-1]
    for state in states:
        op.freeze(op.dims(state)[:1], "it is a layer or a direction")
    state_dims = op.dims(states[0])
    return ([*batch, input_axis], *(list(state_dims) for _ in states))


def _frozen(op: Op, reason: str) -> Any:
    for value in op.node.all_input_nodes:
        op.freeze(op.dims(value), reason)
    return tuple([fresh(size, reason) for size in value.shape] for value in op.node.meta["val"])
