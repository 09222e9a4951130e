"""Turn the graph that torch.export returns into the one form that every analysis and pass can rely on.

Afterwards the graph is flat (regions without gradient or with autocast switched off are inlined), a write in place is
left only where a view or the model's state needs it, a tied tensor has one name and one node, and assertions are gone.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from sparsify import aliasing
from sparsify.errors import CaptureError

__all__ = ["normalize", "tied_names"]

aten = torch.ops.aten
higher_order = torch.ops.higher_order

# Written in place, these keep the type of what is written.
_TO_BOOLEAN = ("eq_", "ne_", "lt_", "le_", "gt_", "ge_", "logical_and_", "logical_not_", "logical_or_", "logical_xor_")


def normalize(module: fx.GraphModule, aliases: Mapping[str, str]) -> fx.Graph:
    """Return a normalised copy of the graph of an exported module.

    Args:
        module: what `ExportedProgram.module(check_guards=False)` returns.
        aliases: further names of tied tensors, each with the name that is kept.

    Raises:
        CaptureError: the graph holds a region that cannot be inlined.
    """
    flat = _Flattening()
    flat.graph.output(flat.copy(module, {}))
    flat.graph._codegen = module.graph._codegen
    _merge_attributes(flat.graph, aliases)
    _functionalize(flat.graph)
    return flat.graph


def tied_names(names: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """Map every further name of a tensor that has several names to its first name.

    Two tensors are one when they are the same view of the same memory: a file gives back tied parameters as two
    objects on one storage.
    """
    first: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in names:
        place = id(tensor) if tensor.numel() == 0 else tensor.data_ptr()
        kept = first.setdefault((place, tensor.shape, tensor.stride(), tensor.dtype, tensor.device), name)
        if kept != name:
            aliases[name] = kept
    return aliases


class _Flattening:
    """Copies nested graphs into one and keeps their gradient semantics: no gradient passes where there was none."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self._trainable: set[fx.Node] = set()  # nodes that a gradient may pass
        self._silent: set[fx.Node] = set()  # nodes that would be trainable if their region had gradients

    def copy(self, module: fx.GraphModule, values: dict[fx.Node, Any], gradient: bool = True) -> Any:
        """Copy the nodes of `module` and return what its output node returns.

        Args:
            module: a graph or the body of a region.
            values: nodes of `module` to what stands for them: a node, or the list of a region's results.
            gradient: whether gradients are recorded here.
        """
        for node in module.graph.nodes:
            if node in values or _is_assertion(node) or _is_region_body(module, node):
                continue
            if node.op == "output":
                return fx.map_arg(node.args[0], lambda n: values[n])
            if any(_is_region_body(module, argument) for argument in node.all_input_nodes):
                values[node] = self._inline(module, node, values, gradient)
            elif node.target is operator.getitem and isinstance(values.get(node.args[0]), list):
                values[node] = values[node.args[0]][node.args[1]]
            else:
                values[node] = self._copy_node(module, node, values, gradient)
        raise ValueError("the graph has no output node")

    def _inline(self, module: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any], gradient: bool) -> list[Any]:
        inside = _gradient_inside(node, gradient)
        position = next(i for i, a in enumerate(node.args) if isinstance(a, fx.Node) and _is_region_body(module, a))
        body = _attribute(module, node.args[position])
        inputs = [node for node in body.graph.nodes if node.op == "placeholder"]
        arguments = [fx.map_arg(a, lambda n: values[n]) for a in node.args[position + 1 :]]
        if inside and not gradient:
            arguments = [self._detach(value) for value in arguments]
        outputs = list(self.copy(body, dict(zip(inputs, arguments, strict=True)), inside))
        return [self._detach(value) for value in outputs] if gradient and not inside else outputs

    def _detach(self, value: Any) -> Any:
        return self._cut(value) if isinstance(value, fx.Node) and value in self._silent else value

    def _cut(self, value: fx.Node) -> fx.Node:
        if not isinstance(value.meta.get("val"), Tensor):
            return value
        node = self.graph.call_function(aten.detach.default, (value,))
        node.meta = {**value.meta, "val": value.meta["val"].detach()}
        return node

    def _copy_node(self, module: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any], gradient: bool) -> fx.Node:
        targets: list[fx.Node] = [values[target] for target in aliasing.written(node)]

        def lookup(source: fx.Node) -> fx.Node:
            value: fx.Node = values[source]
            if gradient or not targets or value not in self._trainable | self._silent:
                return value
            writes_value = value in targets and value.op != "get_attr"
            return value if writes_value else self._cut(value)  # a write would carry the gradient out of the region

        copied = self.graph.node_copy(node, lookup)
        if targets and not gradient and targets[0].op == "get_attr":
            return targets[0]  # what an operator wrote in place is what it returns
        inputs = set(copied.all_input_nodes)
        if node.op == "get_attr":
            trainable = getattr(_attribute(module, node), "requires_grad", False)
        else:
            trainable = _is_float(node) and (
                node.op == "placeholder" or bool(inputs & (self._trainable | self._silent))
            )
        if trainable:
            (self._trainable if gradient else self._silent).add(copied)
        return copied


def _gradient_inside(node: fx.Node, outside: bool) -> bool:
    """Return whether gradients are recorded in a region.

    Raises:
        CaptureError: it is not a region that may be inlined: any `set_grad_enabled`, and autocast that is switched off.
    """
    if node.target is higher_order.wrap_with_set_grad_enabled:
        return bool(node.args[0])
    if node.target is not higher_order.wrap_with_autocast:
        raise CaptureError(f"the model uses {node.target}, which a program cannot hold")
    if node.args[2]:
        raise CaptureError("the model switches autocast on; remove that, and capture it in the type it should run in")
    return outside


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, (list, tuple)) or (isinstance(value, Tensor) and not _is_integral(value))


def _is_integral(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex())


def _is_region_body(module: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "get_attr" and isinstance(_attribute(module, node), fx.GraphModule)


def _is_assertion(node: fx.Node) -> bool:
    name = str(node.target)
    return node.op == "call_function" and ("_assert" in name or "sym_constrain" in name or "_check" in name)


def _attribute(module: fx.GraphModule, node: fx.Node | Any) -> Any:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part, None)
    return value


def _merge_attributes(graph: fx.Graph, aliases: Mapping[str, str]) -> None:
    """Give tied parameters their kept name, and every parameter exactly one node, placed before the first input."""
    first: dict[Any, fx.Node] = {}
    start = next(iter(graph.nodes))
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        node.target = aliases.get(str(node.target), node.target)
        kept = first.setdefault(node.target, node)
        if kept is not node:
            node.replace_all_uses_with(kept)
            graph.erase_node(node)
        elif node is not start:
            start.prepend(node)


def _functionalize(graph: fx.Graph) -> None:
    """Rewrite `add_` and its like into `add` where nothing else reads the written memory afterwards."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    base: dict[fx.Node, fx.Node] = {}
    members: dict[fx.Node, list[fx.Node]] = {}
    for node in list(graph.nodes):
        origin = aliasing.source(node)
        base[node] = node if origin is None else base[origin]
        if (pure := _pure_overload(node)) is not None and base[node].op != "get_attr":
            target = node.args[0]
            others = [other for other in members[base[node]] if other is not target]
            if not any(order[user] > order[node] for other in others for user in other.users):
                node.target = pure
                target.replace_all_uses_with(node, delete_user_cb=lambda user, at=order[node]: order[user] > at)
                base[node] = node
        members.setdefault(base[node], []).append(node)


def _pure_overload(node: fx.Node) -> torch._ops.OpOverload | None:
    """Return `aten.add.Tensor` for `aten.add_.Tensor`; None when its pure sibling has another type."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or aliasing.written(node) != list(node.args[:1]):
        return None
    namespace, name = target._schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None) if name.endswith("_") else None
    overload = getattr(packet, target._overloadname, None)
    if not isinstance(overload, torch._ops.OpOverload) or overload._schema.is_mutable or name in _TO_BOOLEAN:
        return None
    values = [argument.meta["val"] for argument in node.all_input_nodes]
    tensors = [value for value in values if isinstance(value, Tensor)]
    kept = all(torch.result_type(tensors[0], other) == tensors[0].dtype for other in tensors)
    return overload if kept else None
