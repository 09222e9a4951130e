"""How the memory of recurrent layers depends on their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from sparsify.axes.op import key_of
from sparsify.layers import layers
from sparsify.observation import recurrent
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.program import Program
from sparsify.statistics import Streamed

__all__ = ["TemporalJacobian"]


class TemporalJacobian(Streamed):
    """∂χ/∂θ of χ, the mean squared singular value of the Jacobians ∂h_{t+1}/∂h_t, mean over the batches.

    χ is ‖J‖² / H, mean over examples and steps, added up over the layers and directions of an operator; the gradient
    goes through time. It is there for the weights `weight_ih` and `weight_hh` of LSTM, GRU and plain recurrent layers,
    of the weight's shape. Packed sequences and projections have none.
    """

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at what every recurrent layer gets."""
        self._total: dict[str, Tensor] = {}
        self._count: dict[str, int] = {}
        wanted = set(subject.parameters)
        for node, names in _recurrent(subject.program).items():
            if wanted & set(names):
                watched.look(node, partial(self._see, key_of(node).removeprefix("aten::"), names))
        self._wanted = wanted
        return []

    def _see(self, kind: str, names: Sequence[str], *args: Any) -> None:
        with torch.enable_grad():
            weights = [weight.detach().requires_grad_(weight.ndim == 2) for weight in args[2]]
            matrices = [weight for weight in weights if weight.ndim == 2]
            found = torch.autograd.grad(_energy(kind, args, weights), matrices, allow_unused=True)
        for name, weight, gradient in zip(names, matrices, found, strict=True):
            if name in self._wanted:
                known = self._total.get(name, torch.zeros_like(weight))
                self._total[name] = known if gradient is None else known + gradient
                self._count[name] = self._count.get(name, 0) + 1

    def result(self) -> Mapping[str, Tensor]:
        """Return the means."""
        return {name: (total / self._count[name]).detach() for name, total in self._total.items()}


def _recurrent(program: Program) -> dict[fx.Node, list[str]]:
    """Return the recurrent operators that can be repeated here, with the names of their matrices in order."""
    found: dict[fx.Node, list[str]] = {}
    for layer in layers(program):
        if key_of(layer.node).removeprefix("aten::") in recurrent.CELLS:
            found.setdefault(layer.node, []).append(layer.parameter)
    return {
        node: names
        for node, names in found.items()
        if str(getattr(node.target, "_overloadname", "")) == "input"
        and isinstance(node.args[2], (list, tuple))
        and len(names) == 2 * _sequences(node.args)
        and len(node.args[2]) == _sequences(node.args) * (4 if node.args[3] else 2)
    }


def _sequences(args: Any) -> int:
    """Return how often a recurrent operator goes along the sequence: once for each layer and direction."""
    return int(args[4]) * (2 if args[7] else 1)


def _energy(kind: str, args: Any, weights: Sequence[Tensor]) -> Tensor:
    """Return χ, differentiable with respect to the weights."""
    x, states = args[0].detach(), args[1]
    states = [state.detach() for state in (states if isinstance(states, (list, tuple)) else [states])]
    x = x.transpose(0, 1) if args[8] else x
    directions = 2 if args[7] else 1
    each = 4 if args[3] else 2
    total: Tensor = x.new_zeros(())
    for layer in range(int(args[4])):
        outputs = []
        for index in range(layer * directions, (layer + 1) * directions):
            own = weights[index * each : (index + 1) * each]
            first = tuple(state[index] for state in states)
            reverse = bool(index % directions)
            hidden, steps = recurrent.run(recurrent.CELLS[kind], x, first, own, reverse=reverse)
            total = total + torch.stack([step.energy(own[1]).mean() for step in steps]).mean()
            outputs.append(hidden)
        x = torch.cat(outputs, -1)
    return total
