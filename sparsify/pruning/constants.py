"""What a masked channel leaves behind: a value that no input changes, such as its bias behind a ReLU.

A linear layer or a convolution gets the same sum from such a channel every time. The channel can be removed when the
sum is added to the layer's bias instead.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparsify.axes import Axes, Axis
from sparsify.axes.axis import leaves
from sparsify.axes.op import Facts, key_of
from sparsify.axes.positions import by_leaf
from sparsify.axes.resize import Keep, Resizing
from sparsify.axes.zeros import Flow, Zero, free_leaves, repeated
from sparsify.graph import state_only
from sparsify.program import Program
from sparsify.verify import copied

__all__ = ["Constants"]

_LINEAR = "aten::linear"
_CONVOLUTIONS = ("aten::conv1d", "aten::conv2d", "aten::conv3d")


class Constants:
    """Finds the indices of axes along which values do not depend on the inputs, and folds them into biases.

    Args:
        axes: of the program.
        flow: where its values are zero.
    """

    def __init__(self, axes: Axes, flow: Flow) -> None:
        self._axes = axes
        self._flow = flow
        self._inner: dict[fx.Node, Axis] = {}
        fixed = self._fixed = state_only(axes.program.graph)
        self._steady: dict[fx.Node, Mapping[Axis, Zero]] = {}
        for node, facts in axes.facts.items():
            self._steady[node] = {} if node in fixed else self._steady_at(node, facts, fixed)
        self._values = self._evaluate([node for node in axes.facts if self._may_fold(node)])

    def absorbed(self, node: fx.Node, leaf: Axis) -> Zero:
        """Return where `node` can do without an index of a leaf that it sums over, given a bias."""
        if node not in self._values or leaf not in self._steady[node.args[0]]:  # type: ignore[index]
            return False
        steady = self._steady[node.args[0]][leaf]  # type: ignore[index]
        value, _ = self._values[node]
        rough = torch.zeros(leaf.size, dtype=torch.bool)
        for own, uneven in by_leaf(self._inner[node], value.isnan().cpu(), Tensor.any):
            if own is leaf:
                rough |= uneven
        return steady & ~rough

    def fold(self, program: Program, keep: Keep) -> Program:
        """Add to the biases of a program what the indices that it has lost contributed.

        Args:
            program: what is left of the axes' program.
            keep: what was kept of each leaf that lost indices.
        """
        if not self._values:
            return program
        resizing = Resizing(self._axes, keep)
        graph = program.copy_graph()
        parameters: dict[str, Tensor] = dict(program.parameters)
        nodes = {node.name: node for node in graph.nodes}
        for node, (value, weight) in self._values.items():
            out, inner = (resizing.kept(axis) for axis in self._axes.dims[node.args[1]][:2])  # type: ignore[index]
            if inner is None:
                continue
            columns = weight[:, ~inner] if out is None else weight[out][:, ~inner]
            extra = columns @ torch.where(columns.any(0), value[~inner], 0.0)
            if bool(extra.any()):
                _add_to_bias(graph, nodes[node.name], parameters, extra)
        return replace(program, graph=graph, parameters=parameters)

    def _steady_at(self, node: fx.Node, facts: Facts, fixed: set[fx.Node]) -> dict[Axis, Zero]:
        """Return where a result is steady: where it is zero, and where all that it is made of is."""
        dims = self._axes.dims[node]
        mixed = {leaf for axis in (*facts.counts, *(axis for axis, _ in facts.sums)) for leaf in leaves(axis)}
        mixed |= repeated(dims).keys()
        found: dict[Axis, Zero] = dict(self._flow.zeros[node])
        for leaf in set() if isinstance(dims, tuple) else free_leaves(dims) - mixed:

            def steady(value: fx.Node, leaf: Axis = leaf) -> Zero:
                return value in fixed or self._steady.get(value, {}).get(leaf, False)

            operands = [value for value in facts.parts if self._has(value, leaf)] or node.all_input_nodes
            known = functools.reduce(operator.and_, map(steady, operands), bool(operands))
            zeros = [self._flow.zeros[value].get(leaf, False) for value in facts.factors]
            product = functools.reduce(operator.or_, zeros, False)
            known = known | functools.reduce(operator.and_, map(steady, facts.addends), product)
            if known is not False:
                found[leaf] = known | found.get(leaf, False)
        return found

    def _has(self, node: fx.Node, leaf: Axis) -> bool:
        return any(leaf is own for axis in self._axes.dims[node] for own in leaves(axis))

    def _may_fold(self, node: fx.Node) -> bool:
        """Whether a node is a layer whose input is constant at some index, and whose bias may be changed."""
        name = key_of(node)
        if name != _LINEAR and not (name in _CONVOLUTIONS and _is_plain(node)):
            return False
        x, weight = node.args[:2]
        bias = node.args[2] if len(node.args) > 2 else None
        own = bias is None or (isinstance(bias, fx.Node) and len(bias.users) == 1 and bias.op == "get_attr")
        if not own or not isinstance(x, fx.Node) or not isinstance(weight, fx.Node):
            return False
        made_of = _parameter_in(weight, self._axes.program.parameters)
        if weight not in self._fixed or made_of is None or len(self._axes.dims[weight]) < 2:
            return False
        self._inner[node] = self._axes.dims[weight][1]
        zeros = (self._flow.zeros[x], self._flow.zeros[weight])
        return any(
            bool((_array(steady) & ~_array(zeros[0].get(leaf, False)) & ~_array(zeros[1].get(leaf, False))).any())
            for leaf, steady in self._steady.get(x, {}).items()
        )

    def _evaluate(self, wanted: list[fx.Node]) -> dict[fx.Node, tuple[Tensor, Tensor]]:
        """Return for layers the value of each input channel (NaN where that varies), and the weight without kernel."""
        if not wanted:
            return {}
        program = self._axes.program
        recorder = fx.Interpreter(program.module(copy=False), garbage_collect_values=False)
        with torch.no_grad():
            recorder.run(*copied(program.example.leaves()), enable_io_processing=False)
        env = {node.name: value for node, value in recorder.env.items()}
        result = {}
        for node in wanted:
            names = [str(value) for value in node.args[:2]]
            if not all(name in env for name in names):  # noise that evaluation has not
                continue
            x, weight = (env[name] for name in names)
            channel = x.ndim - 1 if key_of(node) == _LINEAR else x.ndim - weight.ndim + 1
            by_channel = x.movedim(channel, 0).flatten(1)
            value = torch.where((by_channel == by_channel[:, :1]).all(1), by_channel[:, 0], torch.nan)
            result[node] = value, weight.flatten(2).sum(2) if weight.ndim > 2 else weight
        return result


def _array(zero: Zero) -> Tensor:
    return torch.as_tensor(zero)


def _is_plain(node: fx.Node) -> bool:
    """Whether a convolution neither pads nor has groups."""
    padding = node.args[4] if len(node.args) > 4 else 0
    groups = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    amounts = list(padding) if isinstance(padding, (list, tuple)) else [padding]
    return bool(groups == 1) and all(amount == 0 for amount in amounts) and "padding" not in node.kwargs


def _add_to_bias(graph: fx.Graph, node: fx.Node, parameters: dict[str, Tensor], extra: Tensor) -> None:
    bias: Any = node.args[2] if len(node.args) > 2 else None
    if bias is not None:
        name = str(bias.target)
        old = parameters[name]
        parameters[name] = nn.Parameter((old.detach() + extra).to(old.dtype), requires_grad=old.requires_grad)
        return
    weight = _parameter_in(node.args[1], parameters)
    assert weight is not None
    module, _, last = str(weight.target).rpartition(".")
    name = f"{module}.bias" if module and last == "weight" else f"{weight.target}_bias"
    while name in parameters:
        name += "_"
    parameters[name] = nn.Parameter(extra.clone(), requires_grad=parameters[str(weight.target)].requires_grad)
    with graph.inserting_after(weight):
        attribute = graph.create_node("get_attr", name)
    attribute.meta["val"] = node.args[1].meta["val"].new_empty(extra.shape)  # type: ignore[union-attr]
    node.args = (*node.args[:2], attribute, *node.args[3:])


def _parameter_in(value: Any, parameters: Mapping[str, Any]) -> fx.Node | None:
    """Return the first parameter that a weight is made of, or None."""
    found: list[fx.Node] = [value]
    for node in found:  # grows while it is read
        if str(node.target) in parameters:
            return node
        found.extend(node.all_input_nodes)
    return None
