import pytest
import torch
from torch import nn

from sparsify.observation.recurrent import CELLS, run

CASES = {
    "rnn_tanh": (lambda **k: nn.RNN(4, 5, **k), 1),
    "rnn_relu": (lambda **k: nn.RNN(4, 5, nonlinearity="relu", **k), 1),
    "gru": (lambda **k: nn.GRU(4, 5, **k), 1),
    "lstm": (lambda **k: nn.LSTM(4, 5, **k), 2),
}


def layer(kind, **options):
    torch.manual_seed(0)
    make, states = CASES[kind]
    made = make(**options).double()
    start = tuple(torch.randn(made.bidirectional + 1, 3, 5).double() for _ in range(states))
    return made, torch.randn(6, 3, 4).double(), start


def test_every_kind_has_a_case():
    assert CASES.keys() == CELLS.keys()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", CASES)
def test_a_cell_computes_what_the_layer_computes(kind, bias):
    made, x, start = layer(kind, bias=bias)
    expected, _ = made(x, start if len(start) > 1 else start[0])
    found, steps = run(CELLS[kind], x, tuple(s[0] for s in start), list(made.parameters()), reverse=False)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(steps[-1].state[0], expected[-1])


@pytest.mark.parametrize("kind", CASES)
def test_the_other_direction_runs_from_the_end(kind):
    made, x, start = layer(kind, bidirectional=True)
    expected, _ = made(x, start if len(start) > 1 else start[0])
    found, steps = run(CELLS[kind], x, tuple(s[1] for s in start), list(made.parameters())[4:], reverse=True)
    torch.testing.assert_close(found, expected[..., 5:])
    torch.testing.assert_close(steps[-1].state[0], found[0])


@pytest.mark.parametrize("kind", CASES)
def test_the_jacobian_is_that_of_automatic_differentiation(kind):
    made, x, start = layer(kind)
    weights = list(made.parameters())
    state = tuple(s[0] for s in start)
    _, (step,) = run(CELLS[kind], x[:1], state, weights, reverse=False)

    def hidden(h):
        return run(CELLS[kind], x[:1], (h, *state[1:]), weights, reverse=False)[0][0].sum(0)

    expected = torch.autograd.functional.jacobian(hidden, state[0]).transpose(0, 1)
    torch.testing.assert_close(step.jacobian(weights[1]), expected)


@pytest.mark.parametrize("kind", CASES)
def test_the_energy_is_the_mean_squared_singular_value(kind):
    made, x, start = layer(kind)
    weights = list(made.parameters())
    for step in run(CELLS[kind], x, tuple(s[0] for s in start), weights, reverse=False)[1]:
        singular = torch.linalg.svdvals(step.jacobian(weights[1]))
        torch.testing.assert_close(step.energy(weights[1]), singular.square().mean(1))
