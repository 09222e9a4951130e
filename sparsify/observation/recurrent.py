"""Recurrent cells in plain torch, with the Jacobian of a step with respect to the hidden state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["CELLS", "State", "Step", "run"]

State: TypeAlias = tuple[Tensor, ...]
"""Hidden state `[N, H]`, for an LSTM followed by the state of its cells."""


@dataclass(frozen=True)
class Step:
    """What a cell does in a step.

    The Jacobian of the new hidden state with respect to the old one is `diag(direct) + Σ_g diag(slopes_g) W_g` with
    W_g the recurrent weights `[H, H]` of gate g.

    Attributes:
        state: the new state.
        slopes: one for each gate, `[N, gates, H]`.
        direct: `[N, H]`, zero where the new state depends on the old one through the weights alone.
    """

    state: State
    slopes: Tensor
    direct: Tensor

    def energy(self, weight_hh: Tensor) -> Tensor:
        """Return ‖J‖² / H for each example, the mean squared singular value of the Jacobian."""
        size = self.direct.shape[1]
        gates = weight_hh.view(-1, size, size)
        products = torch.einsum("ghk,fhk->ghf", gates, gates)
        through = torch.einsum("ngh,ghf,nfh->n", self.slopes, products, self.slopes)
        diagonal = torch.einsum("ngh,ghh->nh", self.slopes, gates)
        return (through + (2 * diagonal * self.direct + self.direct.square()).sum(1)) / size

    def jacobian(self, weight_hh: Tensor) -> Tensor:
        """Return the Jacobian itself, `[N, H, H]`."""
        gates = weight_hh.view(-1, self.direct.shape[1], self.direct.shape[1])
        return torch.diag_embed(self.direct) + torch.einsum("ngh,ghk->nhk", self.slopes, gates)


def _tanh(x: Tensor, h: Tensor, state: State) -> Step:
    new = torch.tanh(x + h)
    return Step((new,), (1 - new.square())[:, None], torch.zeros_like(new))


def _relu(x: Tensor, h: Tensor, state: State) -> Step:
    new = torch.relu(x + h)
    return Step((new,), (new > 0).to(new.dtype)[:, None], torch.zeros_like(new))


def _lstm(x: Tensor, h: Tensor, state: State) -> Step:
    gates = (x + h).chunk(4, 1)
    i, f, o = (gates[index].sigmoid() for index in (0, 1, 3))
    g = torch.tanh(gates[2])
    cells = f * state[1] + i * g
    shown = torch.tanh(cells)
    by_cell = o * (1 - shown.square())
    slopes = (by_cell * g * i * (1 - i), by_cell * state[1] * f * (1 - f), by_cell * i * (1 - g.square()),
              shown * o * (1 - o))  # fmt: skip
    return Step((o * shown, cells), torch.stack(slopes, 1), torch.zeros_like(cells))


def _gru(x: Tensor, h: Tensor, state: State) -> Step:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, 1), h.chunk(3, 1)
    r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
    n = torch.tanh(xn + r * hn)
    by_new = (1 - z) * (1 - n.square())
    slopes = (by_new * hn * r * (1 - r), (state[0] - n) * z * (1 - z), by_new * r)
    return Step(((1 - z) * n + z * state[0],), torch.stack(slopes, 1), z)


Cell: TypeAlias = Callable[[Tensor, Tensor, State], Step]
"""Makes a step from `x W_ihᵀ + b_ih`, `h W_hhᵀ + b_hh`, and the old state."""

CELLS: dict[str, Cell] = {"rnn_tanh": _tanh, "rnn_relu": _relu, "lstm": _lstm, "gru": _gru}


def run(cell: Cell, x: Tensor, state: State, weights: Sequence[Tensor], *, reverse: bool) -> tuple[Tensor, list[Step]]:
    """Run a cell along a sequence.

    Args:
        cell: which one.
        x: the sequence, `[T, N, I]`.
        state: the first state.
        weights: weight_ih, weight_hh, and their biases if there are any.
        reverse: from the end to the beginning.

    Returns:
        The hidden states `[T, N, H]` in the order of the sequence, and the steps in the order in which they were made.
    """
    weight_ih, weight_hh, *biases = weights
    bias_ih, bias_hh = biases or (None, None)
    steps: list[Step] = []
    for value in x.flip(0) if reverse else x:
        into = torch.nn.functional.linear(value, weight_ih, bias_ih)
        steps.append(cell(into, torch.nn.functional.linear(state[0], weight_hh, bias_hh), state))
        state = steps[-1].state
    hidden = torch.stack([step.state[0] for step in steps])
    return hidden.flip(0) if reverse else hidden, steps
