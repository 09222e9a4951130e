"""The module that computes what an ONNX file says: every step is run by the rule of its operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from sparsify.errors import InputError, first_line
from sparsify.modes import assign
from sparsify.onnx_in import rules
from sparsify.onnx_in.graph import OnnxGraph, Step
from sparsify.onnx_in.op import RULES, Host, Op, Value
from sparsify.onnx_in.sizes import known
from sparsify.onnx_in.weights import identifiers, state_names
from sparsify.tracing import quiet

__all__ = ["OnnxNetwork", "folded"]

_LARGEST = 2**34  # bytes of one value
_LARGEST_CONSTANT = 2**30


class OnnxNetwork(nn.Module):
    """An ONNX graph as a module.

    Called with the inputs of the file in their order, or by their names (made into identifiers). It returns the output,
    or a dictionary by name where the file has several.
    """

    def __init__(self, graph: OnnxGraph, weights: set[str]) -> None:
        """Give the module its parameters and buffers.

        Args:
            graph: with layers, folded.
            weights: names of the constants that are parameters.
        """
        super().__init__()
        rules.load()
        self.onnx = graph
        self.arguments = identifiers(item.name for item in graph.inputs)
        self.returned = identifiers(graph.outputs)
        read = [name for step in graph.steps for name in step.inputs if name in graph.constants]
        read += [name for name in graph.outputs if name in graph.constants]
        self._paths = state_names(graph, dict.fromkeys(str(name) for name in read), dir(self))
        self._hosts: dict[str, Host] = {}
        for name, path in self._paths.items():
            array = graph.constants[name]
            value = torch.from_numpy(np.array(array, copy=True))
            assign(self, path, nn.Parameter(value) if name in weights else value)
            if name not in weights:
                self._hosts[name] = Host(array, value.dtype, path)
        self.forward = self._caller()

    def _caller(self) -> Callable[..., Any]:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(name, kind) for name in self.arguments.values()])

        def forward(*args: Any, **kwargs: Any) -> Any:
            return self.run(signature.bind(*args, **kwargs).arguments)

        forward.__signature__ = signature  # type: ignore[attr-defined]
        return forward

    def run(self, arguments: Mapping[str, Tensor], watch: Callable[[Step, Tensor], None] | None = None) -> Any:
        """Compute the outputs.

        Args:
            arguments: the inputs by the names of arguments.
            watch: is told every tensor that is computed.

        Raises:
            InputError: an operator cannot be computed; the message names it.
        """
        values: dict[str, Value] = {name: arguments[argument] for name, argument in self.arguments.items()}
        device = next((value.device for value in arguments.values()), torch.device("cpu"))

        def constant(host: Host) -> Tensor:
            return host.tensor(device) if host.name is None else _find(self, host.name)

        def value_of(name: str | None) -> Value | None:
            if name is None or name in values:
                return None if name is None else values[name]
            return self._hosts[name] if name in self._hosts else _find(self, self._paths[name])

        for step in self.onnx.steps:
            given = [value_of(name) for name in step.inputs]
            op = Op(step, given, opset=self.onnx.opset, training=self.training, device=device, constant=constant)
            found = _computed(op, given)
            for name, value in zip(step.outputs, found, strict=False):
                if name is not None:
                    values[name] = value
                if watch is not None and isinstance(value, Tensor):
                    watch(step, value)
        outputs = {self.returned[name]: _as_tensor(value_of(name), constant) for name in self.onnx.outputs}
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def check_sizes(self, arguments: Mapping[str, Tensor]) -> None:
        """Derive the sizes of all values without computing any.

        Raises:
            InputError: an operator does not fit its inputs, or a value would be absurdly large.
        """

        def watch(step: Step, value: Tensor) -> None:
            if (size := value.numel() * value.element_size()) > _LARGEST:
                shape = "x".join(map(str, value.shape))
                raise InputError(f"{step.type} {step.name!r:.100} makes a value of {shape}, which takes {size:,} bytes")

        with quiet(), FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
            self.run({name: mode.from_tensor(value) for name, value in arguments.items()}, watch)


def _as_tensor(value: Value | None, constant: Callable[[Host], Tensor]) -> Tensor:
    assert value is not None
    return constant(value) if isinstance(value, Host) else value


def _computed(op: Op, given: list[Value | None]) -> tuple[Value, ...]:
    """Return the outputs of one step, by its rule.

    Raises:
        InputError: the rule refuses or fails.
    """
    try:
        found = known(op, given)
        if found is None:
            found = RULES[op.step.type](op)
    except InputError:
        raise
    except Exception as error:
        raise op.refused(first_line(error)) from error
    return found if isinstance(found, tuple) else (found,)


def folded(graph: OnnxGraph, weights: set[str]) -> OnnxGraph:
    """Return the graph with everything computed that depends neither on inputs nor on weights.

    Raises:
        InputError: an operator cannot be computed, or its result would be absurdly large.
    """
    rules.load()
    constants, steps = dict(graph.constants), []
    for step in graph.steps:
        names = [name for name in step.inputs if name is not None]
        if any(name in weights or name not in constants for name in names) or step.type == "Dropout":
            steps.append(step)
            continue
        given: list[Value | None] = [None if name is None else _host(constants[name]) for name in step.inputs]
        _check_constant(step, given, graph.opset)
        op = Op(step, given, opset=graph.opset, constant=_loaded)
        with torch.no_grad():
            for name, value in zip(step.outputs, _computed(op, given), strict=False):
                if name is not None:
                    constants[name] = value.array if isinstance(value, Host) else np.array(value.contiguous().numpy())
    return replace(graph, steps=tuple(steps), constants=constants)


def _check_constant(step: Step, given: list[Value | None], opset: int) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        op = Op(step, given, opset=opset, constant=lambda host: mode.from_tensor(_loaded(host)))
        for value in _computed(op, given):
            if isinstance(value, Tensor) and value.numel() * value.element_size() > _LARGEST_CONSTANT:
                shape = "x".join(map(str, value.shape))
                raise InputError(f"{step.type} {step.name!r:.100} makes a constant of {shape}")


def _host(array: Any) -> Host:
    return Host(array, getattr(torch, str(array.dtype)))


def _loaded(host: Host) -> Tensor:
    return torch.from_numpy(np.array(host.array))


def _find(module: nn.Module, path: str) -> Tensor:
    *parts, leaf = path.split(".")
    for part in parts:
        module = getattr(module, part)
    found: Tensor = getattr(module, leaf)
    return found
