"""Recurrent layers, with the weights that `sparsify.onnx_in.layers` puts into PyTorch's order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsify.onnx_in.op import Op, onnx_rule

_FUNCTIONS = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_tanh}


@onnx_rule("LSTM", "GRU", "RNN")
def recurrent(op: Op) -> tuple[Tensor, ...]:
    """Run one layer; the inputs behind the states are the weights of every direction.

    x [length, batch, inputs] gives y [length, directions, batch, hidden] and the last states [directions, batch,
    hidden].
    """
    x, hidden = op.tensor(0), int(op.attribute("hidden_size"))
    both = op.attribute("direction", "forward") == "bidirectional"
    directions = 2 if both else 1
    state = [directions, x.shape[1], hidden]
    states = [op.tensor(i) if op.has(i) else x.new_zeros(state) for i in range(1, 3 if op.step.type == "LSTM" else 2)]
    weights = [op.tensor(i) for i in range(3, len(op))]
    back = op.attribute("direction", "forward") == "reverse"
    function: Any = torch.rnn_relu if op.attribute("activations") == ["Relu"] * directions else _FUNCTIONS[op.step.type]
    given = states if op.step.type == "LSTM" else states[0]
    biased = len(weights) == 4 * directions
    y, *last = function(x.flip(0) if back else x, given, weights, biased, 1, 0.0, op.training, both, False)
    y = y.reshape(y.shape[0], y.shape[1], directions, hidden).permute(0, 2, 1, 3)
    return (y.flip(0) if back else y, *last)
