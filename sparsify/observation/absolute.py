"""Absolute programs: a program whose output is a sum of products of absolute values of its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from sparsify.graph import state_only
from sparsify.observation.absolute_rules import POSITIVE, Call
from sparsify.observation.signals import Signal
from sparsify.observation.watching import Watched
from sparsify.program import Program

__all__ = ["absolute_gradients"]


def absolute_gradients(
    program: Program, parameters: Iterable[str], signals: Sequence[Signal] = ()
) -> dict[str, Tensor]:
    """Return the gradients of R, the sum of the outputs of the program's absolute form, for inputs of ones.

    The absolute form is the evaluation form in float64 with the absolute values of weights and constants. Biases and
    other shifts are left out, activations are identities, and so is a change of sign. Batch norms multiply by
    |γ| / sqrt(var + eps). What else is normalised, written out or not, is divided by its size, and softmax by its sum;
    divisors are held constant, as is the factor that keeps a product of two values in range. So every layer is
    linear in what it gets, no gradient is negative, and without biases the sum of θ ∂R/∂θ is R for every layer
    that all paths pass. Inputs that are indices stay as they are.

    Args:
        program: any program; nothing of it is changed.
        parameters: names of those whose gradients are wanted.
        signals: groups and blocks; of each the gradients of gates on its channels are returned.

    Returns:
        ∂R/∂|θ| by the name of the parameter and ∂R/∂α at α = 1 by the key of the signal, in float64. What R does not
        depend on, such as a bias, has zeros.

    Reference: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", 2020.
    """
    wanted = set(parameters)
    leaves = {
        name: value.detach().double().abs().requires_grad_()
        for name, value in program.parameters.items()
        if value.is_floating_point()
    }
    device = next(iter(program.parameters.values())).device
    gates = {s.key: torch.ones(s.size, dtype=torch.float64, device=device, requires_grad=True) for s in signals}
    watched = Watched(program)
    for signal in signals:
        signal.scale(watched, gates[signal.key])
    asked = {**{name: leaf for name, leaf in leaves.items() if name in wanted}, **gates}
    with torch.enable_grad():
        outputs = _Absolute(watched.ready(), leaves).run(*program.example.leaves(), enable_io_processing=False)
        total = sum(value.sum() for value in pytree.tree_leaves(outputs) if _flows(value))
        found: Sequence[Tensor | None] = [None] * len(asked)
        if isinstance(total, Tensor) and asked:
            found = torch.autograd.grad(total, list(asked.values()), allow_unused=True)
    pairs = zip(asked.items(), found, strict=True)
    return {name: torch.zeros_like(leaf) if value is None else value for (name, leaf), value in pairs}


class _Absolute(fx.Interpreter):
    """Runs a graph on absolute values.

    A value flows if it depends on weights or on inputs that are no indices: if it has a gradient. What does not flow,
    such as masks and tables of positions, is computed as ever; where it meets what flows, its absolute value counts.
    """

    def __init__(self, model: Any, leaves: Mapping[str, Tensor]) -> None:
        super().__init__(model)
        self._leaves = leaves
        self._state = state_only(model.graph)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node in its positive form."""
        if n.op == "placeholder":
            value = super().run_node(n)
            return torch.ones_like(value, dtype=torch.float64, requires_grad=True) if _floating(value) else value
        if n.op == "get_attr":
            return self._attribute(n)
        flowing = any(_flow_in(self.env[source]) for source in n.all_input_nodes)
        if flowing and isinstance(n.target, torch._ops.OpOverload) and _floats(n):
            return self._called(n)
        args, kwargs = pytree.tree_map(_double, self.fetch_args_kwargs_from_env(n))
        return getattr(self, n.op)(n.target, args, kwargs)

    def _attribute(self, node: fx.Node) -> Any:
        if (leaf := self._leaves.get(str(node.target))) is not None:
            return leaf
        value = self.fetch_attr(str(node.target))
        return value.detach().to(torch.float64, copy=True) if _floating(value) else value

    def _called(self, node: fx.Node) -> Any:
        schema, call = node.target._schema, self._call(node)  # type: ignore[union-attr]
        rule = POSITIVE.get(schema.name.removesuffix("_"))
        if rule is not None:
            result = rule(call)
            return call.first.copy_(result) if schema.is_mutable else result
        if torch.Tag.pointwise in node.target.tags and len(call.flowing) == 1 and not schema.is_mutable:  # type: ignore[union-attr]
            return call.flow
        return pytree.tree_map(_positive, call.run(call.values))

    def _call(self, node: fx.Node) -> Call:
        """Bind the arguments of a node to the names of its schema; constants are absolute, biases are gone."""
        schema = node.target._schema  # type: ignore[union-attr]
        names = [argument.name for argument in schema.arguments]
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        sources = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        values = {
            argument.name: given.get(argument.name, argument.default_value if argument.has_default_value() else None)
            for argument in schema.arguments
        }
        flowing = frozenset(name for name, value in values.items() if _flow_in(value) and name != "bias")
        state = frozenset(
            name for name, source in sources.items() if isinstance(source, fx.Node) and source in self._state
        )
        if not schema.is_mutable:
            for name in values.keys() - flowing - {"exponent"}:
                values[name] = None if name == "bias" else pytree.tree_map(_size, _double(values[name]))
        same = len(node.args) > 1 and node.args[0] is node.args[1]
        return Call(values, flowing, state, lambda changed: _run(node.target, changed), same)


def _run(target: Any, values: Mapping[str, Any]) -> Any:
    named = {argument.name for argument in target._schema.arguments if argument.kwarg_only}
    positional = [value for name, value in values.items() if name not in named]
    return target(*positional, **{name: value for name, value in values.items() if name in named})


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _double(value: Any) -> Any:
    """Return float64 for any floating type; other arguments stay."""
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value


def _size(value: Any) -> Any:
    """Return the absolute value of a constant tensor, zero where it is infinite."""
    return torch.nan_to_num(value.abs(), nan=0.0, posinf=0.0) if _floating(value) else value


def _positive(value: Any) -> Any:
    return value.abs() if _floating(value) and not value.is_complex() and bool((value < 0).any()) else value


def _floats(node: fx.Node) -> bool:
    """Whether the result of a node is made of numbers that could flow."""
    return any(_floating(value) for value in pytree.tree_leaves(node.meta.get("val")))


def _flows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad and value.is_floating_point()


def _flow_in(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(value))
