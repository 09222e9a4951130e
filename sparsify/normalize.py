"""Turn the graph that torch.export returns into the one form that every analysis and pass can rely on.

Afterwards the graph is flat (regions without gradient or with autocast switched off are inlined), intermediate values
are never written in place, a tied parameter has one name and one node, and run-time assertions are gone.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["normalize", "tied_names"]

aten = torch.ops.aten
higher_order = torch.ops.higher_order


def normalize(module: fx.GraphModule, aliases: Mapping[str, str]) -> fx.Graph:
    """Return a normalised copy of the graph of an exported module.

    Args:
        module: what `ExportedProgram.module(check_guards=False)` returns.
        aliases: further names of tied parameters, each with the name that is kept.
    """
    graph = fx.Graph()
    result = _copy(graph, module, {})
    graph.output(result)
    graph._codegen = module.graph._codegen
    _merge_attributes(graph, aliases)
    _functionalize(graph)
    return graph


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


def _copy(graph: fx.Graph, module: fx.GraphModule, values: dict[fx.Node, Any]) -> Any:
    """Copy the nodes of `module` into `graph` and return what its output node returns.

    `values` maps the nodes of `module` to what stands for them in `graph`: a node, or the list of a region's results.
    """
    for node in module.graph.nodes:
        if node in values or _is_assertion(node) or _is_region_body(module, node):
            continue
        if node.op == "output":
            return fx.map_arg(node.args[0], lambda n: values[n])
        if _is_region(node):
            values[node] = _inline(graph, module, node, values)
        elif node.target is operator.getitem and isinstance(values.get(node.args[0]), list):
            values[node] = values[node.args[0]][node.args[1]]
        else:
            values[node] = graph.node_copy(node, lambda n: values[n])
    raise ValueError("the graph has no output node")


def _inline(graph: fx.Graph, module: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any]) -> list[Any]:
    """Inline a region; what leaves a region without gradient is detached."""
    position = next(i for i, a in enumerate(node.args) if isinstance(a, fx.Node) and _is_region_body(module, a))
    body = _attribute(module, node.args[position])
    inputs = [node for node in body.graph.nodes if node.op == "placeholder"]
    arguments = [fx.map_arg(a, lambda n: values[n]) for a in node.args[position + 1 :]]
    outputs = list(_copy(graph, body, dict(zip(inputs, arguments, strict=True))))
    if node.target is higher_order.wrap_with_autocast or node.args[0]:
        return outputs
    return [_detach(graph, value) for value in outputs]


def _detach(graph: fx.Graph, value: Any) -> Any:
    fake = value.meta.get("val") if isinstance(value, fx.Node) else None
    if not isinstance(fake, Tensor) or not fake.requires_grad:
        return value
    node = graph.call_function(aten.detach.default, (value,))
    node.meta = {**value.meta, "val": fake.detach()}
    return node


def _is_region(node: fx.Node) -> bool:
    """A region that may be inlined: any `set_grad_enabled`, and autocast when it is switched off."""
    if node.target is higher_order.wrap_with_autocast:
        return node.args[2] is False
    return node.target is higher_order.wrap_with_set_grad_enabled


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
    """Rewrite `add_` and its like into `add` where the written value is an intermediate that nothing else aliases."""
    for node in list(graph.nodes):
        pure = _pure_overload(node.target)
        if pure is None or not isinstance(written := node.args[0], fx.Node):
            continue
        if written.op != "call_function" or _is_view(written) or any(_is_view(user) for user in written.users):
            continue
        node.target = pure
        written.replace_all_uses_with(node, delete_user_cb=_after(node))


def _after(node: fx.Node) -> Any:
    """Only users that run after `node` see what it wrote."""
    later = set()
    following = node.next
    while following.op != "root":
        later.add(following)
        following = following.next
    return lambda user: user in later


def _pure_overload(target: Any) -> torch._ops.OpOverload | None:
    """Return `aten.add.Tensor` for `aten.add_.Tensor`; None when the op writes nothing or has no such sibling."""
    if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
        return None
    namespace, name = target._schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None) if name.endswith("_") else None
    overload = getattr(packet, target._overloadname, None)
    return overload if isinstance(overload, torch._ops.OpOverload) and not overload._schema.is_mutable else None


def _is_view(node: fx.Node) -> bool:
    """Whether the result may share memory with an argument."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.target is operator.getitem
    return any(result.alias_info is not None for result in node.target._schema.returns) and not (
        node.target._schema.is_mutable
    )
