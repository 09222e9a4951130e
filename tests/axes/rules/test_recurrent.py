import pytest
import torch
from helpers.axes import case, prove
from helpers.marks import some
from torch import nn

TOKENS = (3, 5)


def layer(kind=nn.LSTM, hidden=4, **options):
    return kind(6, hidden, batch_first=True, **options)


def all_states(s, x):
    return torch.cat([*s.r(x)[1][0], *s.r(x)[1][1]], -1)


def from_learned_state(s, x):
    states = tuple(state.expand(-1, x.shape[0], -1).contiguous() for state in (s.h, s.c))
    return s.r(x, states)[0]


def steps(s, x):
    """Three steps of a cell on the same input."""
    state = s.r(x)
    for _ in range(2):
        state = s.r(x, state)
    return state if isinstance(state, torch.Tensor) else torch.cat(state, -1)


CASES = {
    "lstm": case(lambda s, x: s.r(x)[0], 6, [6, 4], x=TOKENS, r=layer()),
    "lstm without biases": case(lambda s, x: s.r(x)[0], 6, [6, 4], x=TOKENS, r=layer(bias=False)),
    "lstm of two layers": case(lambda s, x: s.r(x)[0], 6, [6, 4], x=TOKENS, r=layer(num_layers=2, dropout=0.3)),
    "lstm in two directions": case(lambda s, x: s.r(x)[0], 6, [6, 4], x=TOKENS, r=layer(bidirectional=True)),
    "lstm of two layers in two directions": case(
        lambda s, x: s.r(x)[0], 6, [6, 4], x=TOKENS, r=layer(num_layers=2, bidirectional=True)),
    "lstm whose time comes first": case(
        lambda s, x: s.r(x.transpose(0, 1))[0].transpose(0, 1), 6, [6, 4], x=TOKENS, r=nn.LSTM(6, 4)),
    "lstm of one sequence": case(
        lambda s, x: x * s.r(s.p)[0][0], 4, [6, 4], r=nn.LSTM(6, 4), p=nn.Parameter(torch.ones(3, 6))),
    "lstm's last states": case(all_states, 6, [6, 4], x=TOKENS, r=layer(num_layers=2)),
    "lstm from learned states": case(
        from_learned_state, 6, [4, 6], x=TOKENS, r=layer(), h=nn.Parameter(torch.ones(1, 1, 4)),
        c=nn.Parameter(torch.ones(1, 1, 4))),
    "lstm and a shortcut": case(lambda s, x: s.r(x)[0] + x, 6, [6], x=TOKENS, r=layer(hidden=6)),
    "lstm applied twice": case(lambda s, x: s.r(s.r(x)[0])[0], 6, [6], x=TOKENS, r=layer(hidden=6)),
    "lstm, summed over parts of its units": case(
        lambda s, x: s.r(x)[0].unflatten(-1, (2, 2)).sum(2), 6, [6, 2, 2], x=TOKENS, r=layer()),
    "lstm with projections": case(lambda s, x: s.r(x)[0], 6, x=TOKENS, r=layer(proj_size=3)),
    "gru": case(lambda s, x: s.r(x)[0], 6, [6, 4], x=TOKENS, r=layer(nn.GRU)),
    "gru's last states": case(
        lambda s, x: s.r(x)[1].transpose(0, 1), 6, [6, 4], x=TOKENS,
        r=layer(nn.GRU, num_layers=2, bidirectional=True, bias=False)),
    "rnn": case(lambda s, x: s.r(x)[0], 6, [6, 4], x=TOKENS, r=layer(nn.RNN)),
    "rnn of ReLUs": case(lambda s, x: s.r(x)[0], 6, [6, 4], x=TOKENS, r=layer(nn.RNN, nonlinearity="relu")),
    "lstm cell": case(steps, 6, [6, 4], r=nn.LSTMCell(6, 4)),
    "gru cell": case(steps, 6, [6, 4], r=nn.GRUCell(6, 4, bias=False)),
    "rnn cell": case(steps, 6, [6, 4], r=nn.RNNCell(6, 4)),
    "rnn cell of ReLUs": case(steps, 6, [6, 4], r=nn.RNNCell(6, 4, nonlinearity="relu")),
}  # fmt: skip


PLAIN = (
    "lstm of two layers in two directions", "lstm of one sequence", "lstm with projections", "gru", "rnn of ReLUs",
    "lstm cell", "gru cell", "rnn cell",
)  # fmt: skip


@pytest.mark.parametrize("name", some(PLAIN, CASES))
def test_what_is_free_can_go(name):
    case = CASES[name]
    assert prove(case) == (case.exact, case.inexact)
