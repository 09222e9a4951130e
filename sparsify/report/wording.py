"""What a drawing calls the operators of a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from sparsify.axes.op import key_of
from sparsify.graph_text import type_text
from sparsify.naming import common_module
from sparsify.program import Program

__all__ = ["describe", "is_norm", "operator"]

Shape = Sequence[Any]

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_PRODUCTS = {"linear": 0, "addmm": 1}  # which argument is what goes in
_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")


def operator(node: fx.Node) -> str:
    """Return the name of a node's operator without its namespace, if that is torch's, and without a trailing `_`."""
    return key_of(node).removeprefix("aten::").rstrip("_") if node.op == "call_function" else node.name


def is_norm(node: fx.Node) -> bool:
    """Whether a node is a norm, with weights or without."""
    return operator(node).endswith(_NORMS)


def describe(program: Program, node: fx.Node, parameters: Sequence[str], norm: bool = False) -> tuple[str, str]:
    """Describe a node for a drawing.

    Args:
        program: that it is in.
        node: which.
        parameters: the names of those that it reads.
        norm: whether what it scales was divided by a root before, as in a norm that is written out.

    Returns:
        What it is called, by the module of its weights if it has some; and what it does: `conv2d 3x3, 16 → 32`.
    """
    if node.op != "call_function":
        return ("output" if node.op == "output" else node.name), ""
    name = operator(node)
    if name == "scaled_dot_product_attention":
        return "attention", program.spelled(_heads(node))
    if not parameters:
        return _SIGNS.get(name, name), program.spelled(type_text(node))
    weight = max((program.parameters[parameter].shape for parameter in parameters), key=len)
    short = "norm" if norm and name == "mul" else name.rpartition("::")[2].strip("_").replace("_", " ")
    return common_module(parameters) or parameters[0], program.spelled(f"{short}{_sizes(name, node, weight)}")


def _sizes(name: str, node: fx.Node, weight: Shape) -> str:
    if name.startswith("conv") and len(weight) > 2:
        channels = 1 - len(weight)  # this dimension, of input and result, with or without a batch
        return f" {'x'.join(map(str, weight[2:]))}, {_shape(node.args[0])[channels]} → {_shape(node)[channels]}"
    if name in _PRODUCTS:
        return f", {_shape(node.args[_PRODUCTS[name]])[-1]} → {_shape(node)[-1]}"
    return f", {' x '.join(map(str, weight))}"


def _heads(node: fx.Node) -> str:
    query = _shape(node.args[0])
    return f"{query[-3]} heads of {query[-1]}" if len(query) > 3 else f"one head of {query[-1]}"


def _shape(node: Any) -> Shape:
    value = node.meta.get("val")
    assert isinstance(value, Tensor)
    return value.shape
