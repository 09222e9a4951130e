"""Layers: products of ONNX become the layers of PyTorch that they came from, so that analyses and passes find them.

`MatMul` or `Gemm` with a weight, and the bias that is added behind, become one linear layer whose weight is stored
[outputs, inputs]. Weights of recurrent layers are cut and ordered as PyTorch has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sparsify.errors import InputError
from sparsify.onnx_in.graph import LINEAR, OnnxGraph, Step

__all__ = ["with_layers"]

_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}  # PyTorch's gates, by their places in ONNX
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def with_layers(graph: OnnxGraph, weights: set[str]) -> tuple[OnnxGraph, set[str]]:
    """Return the graph with layers, and the names of its weights.

    Raises:
        InputError: a recurrent layer has a form that PyTorch does not.
    """
    constants = dict(graph.constants)
    steps = _linear(graph, weights, constants)
    weights = set(weights)
    steps = [_recurrent(step, constants, weights) if step.type in _ORDER else step for step in steps]
    made = replace(graph, steps=tuple(steps), constants=constants)
    made = replace(made, steps=tuple(_with_bias(made, weights)))
    return made, weights


def _linear(graph: OnnxGraph, weights: set[str], constants: dict[str, Any]) -> list[Step]:
    """Make linear layers of products with a matrix, and turn matrices round that only such products read."""
    makers = {step.outputs[0]: step for step in graph.steps}
    uses = graph.uses()
    plans = {id(step): plan for step in graph.steps if (plan := _plan(step, makers, weights, constants))}
    turned = Counter(weight for weight, turn in plans.values() if turn)
    steps = []
    for step in graph.steps:
        weight, turn = plans.get(id(step), ("", False))
        if not weight or (turn and turned[weight] < uses[weight]):
            steps.append(step)
            continue
        bias = step.inputs[2:3] if step.type == "Gemm" and len(step.inputs) > 2 else ()
        steps.append(Step(LINEAR, step.name, (step.inputs[0], weight, *bias), step.outputs))
    for weight, count in turned.items():
        if count == uses[weight]:
            constants[weight] = np.ascontiguousarray(constants[weight].T)
    return steps


def _plan(
    step: Step, makers: Mapping[str | None, Step], weights: set[str], constants: Mapping[str, Any]
) -> tuple[str, bool] | None:
    """Return the weight of a product that is a linear layer, and whether it is stored the other way round."""
    attributes = step.attributes
    if step.type == "Gemm":
        plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
        bias = step.inputs[2] if len(step.inputs) > 2 else None
        turn = not attributes.get("transB", 0)
        name = step.inputs[1]
        if not plain or name not in weights or constants[name].ndim != 2:
            return None
        outputs = constants[name].shape[1 if turn else 0]
        fits = bias is None or (bias in weights and constants[bias].shape == (outputs,))
        return (name, turn) if fits else None
    if step.type != "MatMul":
        return None
    name, turn = step.inputs[1], True
    maker = makers.get(name)
    if maker is not None and maker.type == "Transpose" and list(maker.attributes.get("perm", [1, 0])) == [1, 0]:
        name, turn = maker.inputs[0], False
    return (name, turn) if name in weights and constants[name].ndim == 2 else None


def _with_bias(graph: OnnxGraph, weights: set[str]) -> list[Step]:
    """Put the bias that is added behind a linear layer into it."""
    uses = graph.uses()
    open_layers = {step.outputs[0]: step for step in graph.steps if step.type == LINEAR and len(step.inputs) == 2}
    joined: dict[int, Step] = {}
    dropped = set()
    for step in graph.steps:
        if step.type != "Add":
            continue
        for layer, bias in (step.inputs, step.inputs[::-1]):
            found = open_layers.get(layer)
            if found is None or bias not in weights or uses[str(layer)] != 1:
                continue
            outputs = graph.constants[str(found.inputs[1])].shape[0]
            if graph.constants[str(bias)].shape == (outputs,):
                joined[id(step)] = Step(LINEAR, found.name, (*found.inputs, bias), step.outputs)
                dropped.add(id(found))
                break
    return [joined.get(id(step), step) for step in graph.steps if id(step) not in dropped]


def _recurrent(step: Step, constants: dict[str, Any], weights: set[str]) -> Step:
    """Cut the weights of a recurrent layer into those of its directions, with PyTorch's order of gates.

    ONNX has x, W [directions, gates x hidden, inputs], R [directions, gates x hidden, hidden], B [directions,
    2 x gates x hidden], lengths and states; the step that is returned has x, states and weights.
    """
    inputs = (*step.inputs, *[None] * 8)
    directions = 2 if step.attributes.get("direction") == "bidirectional" else 1
    _check_recurrent(step, directions)
    for name in inputs[1:4]:
        if name is not None and name not in constants:
            raise _refused(step, "its weights are computed, and must be constants")
    order, new = _ORDER[step.type], []
    stem = f"{step.name.strip('/').replace('/', '.').rpartition('.')[0] or step.name}".strip(".")
    for direction in range(directions):
        suffix = "_l0" + "_reverse" * (direction == 1)
        parts = {
            f"weight_ih{suffix}": _ordered(constants[str(inputs[1])][direction], order),
            f"weight_hh{suffix}": _ordered(constants[str(inputs[2])][direction], order),
        }
        if inputs[3] is not None:
            halves = np.split(constants[str(inputs[3])][direction], 2)
            parts |= {f"bias_{kind}{suffix}": _ordered(half, order)
                      for kind, half in zip(("ih", "hh"), halves, strict=True)}  # fmt: skip
        for name, array in parts.items():
            full = f"{stem}.{name}"
            if full in constants:
                full = f"{stem}.{step.outputs[0] or step.outputs[1]}.{name}"
            constants[full] = array
            weights.add(full)
            new.append(full)
    states = inputs[5 : 7 if step.type == "LSTM" else 6]
    return replace(step, inputs=(inputs[0], *states, *[None] * (2 - len(states)), *new))


def _check_recurrent(step: Step, directions: int) -> None:
    inputs, attributes = (*step.inputs, *[None] * 8), step.attributes
    if inputs[4] is not None:
        raise _refused(step, "its examples have lengths of their own")
    if step.type == "LSTM" and inputs[7] is not None:
        raise _refused(step, "it has peepholes, which PyTorch does not")
    if step.type == "GRU" and not attributes.get("linear_before_reset", 0):
        raise _refused(step, "it resets before the product (linear_before_reset=0), and PyTorch behind it")
    if attributes.get("clip") or attributes.get("layout", 0) or attributes.get("input_forget", 0):
        raise _refused(step, "it has clip, layout or input_forget, which PyTorch does not")
    activations = attributes.get("activations") or _ACTIVATIONS[step.type] * directions
    allowed = [_ACTIVATIONS[step.type] * directions] + [["Relu"] * directions] * (step.type == "RNN")
    if activations not in allowed:
        raise _refused(step, f"it has the activations {', '.join(map(str, activations))}, and PyTorch has others")


def _ordered(array: Any, order: tuple[int, ...]) -> Any:
    parts = np.split(array, len(order))
    return np.concatenate([parts[place] for place in order])


def _refused(step: Step, reason: str) -> InputError:
    return InputError(f"{step.operator} {step.name!r:.100} cannot be read: {reason}")
