"""Rewriting: layers become sparse operators, and the activations behind them part of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from torch import fx, nn
from torch._subclasses import FakeTensorMode

from sparsify.formats import Format
from sparsify.graph import aten
from sparsify.lowering.sites import FORMS, PRODUCTS, Site, moves, operator_of
from sparsify.program import Program
from sparsify.shapes import fake, fake_mode

__all__ = ["ACTIVATIONS", "lowered"]

ACTIVATIONS = {aten.relu.default: "relu", aten.gelu.default: "gelu", aten.silu.default: "silu"}
"""What a sparse operator computes along."""


def lowered(program: Program, formats: Mapping[Site, Format]) -> Program:
    """Return the program with the matrices of some sites in formats, and their layers as sparse operators.

    What a format stores of a weight is a parameter `<name>_values`; what else it has are buffers beside it. What the
    masks kept of the weights is still trained.
    """
    graph = program.copy_graph()
    here = {node.name: node for node in graph.nodes}
    mode = fake_mode(program) or FakeTensorMode()
    parameters, buffers = dict(program.parameters), dict(program.buffers)
    for site, form in formats.items():
        old = parameters[site.name]
        stored = {f"{site.name}_{name}": value for name, value in form.tensors.items()}
        values = f"{site.name}_values"
        parameters[values] = nn.Parameter(stored.pop(values), requires_grad=old.requires_grad)
        buffers |= stored
        names = [values, *(f"{site.name}_{name}" for name in FORMS[type(form)].others)]
        for original in site.nodes:
            node = here[original.name]
            with graph.inserting_before(node):
                attributes = [graph.create_node("get_attr", name) for name in names]
            for attribute, name in zip(attributes, names, strict=True):
                attribute.meta["val"] = fake({**parameters, **buffers}[name], mode)
            _replace(graph, node, site, form, attributes)
    return replace(program, parameters=parameters, buffers=buffers).with_graph(graph)


def _replace(graph: fx.Graph, node: fx.Node, site: Site, form: Format, attributes: list[fx.Node]) -> None:
    """Put a sparse operator in the place of a layer."""
    convolution, added = node.target is aten.conv2d.default, node.target is aten.addmm.default
    x: Any = node.args[1 if added else 0]
    bias = node.args[0] if added else node.args[2] if node.target not in PRODUCTS and len(node.args) > 2 else None
    last, activation = _activated(node)
    with graph.inserting_before(node):
        if site.patched:
            x = _patches(graph, node, x)
        elif convolution:
            x = _call(graph, aten.permute.default, x, [0, 2, 3, 1])
        made = _call(graph, operator_of(type(form)), x, *attributes, bias, activation, **FORMS[type(form)].numbers(form))
        if site.patched:
            made = _call(graph, aten.permute.default, made, [0, 2, 1])
            made = _call(graph, aten.reshape.default, made, [-1, *node.meta["val"].shape[1:]])
        elif convolution:
            made = _call(graph, aten.permute.default, made, [0, 3, 1, 2])
    made.meta = {**last.meta, "val": made.meta["val"]}
    last.replace_all_uses_with(made)


def _activated(node: fx.Node) -> tuple[fx.Node, str]:
    """Return the activation that alone reads a layer, and its name; else the layer itself."""
    user = next(iter(node.users)) if len(node.users) == 1 else node
    name = ACTIVATIONS.get(cast(Any, user.target))
    return (user, name) if name and len(user.args) == 1 and not user.kwargs else (node, "none")


def _patches(graph: fx.Graph, node: fx.Node, x: fx.Node) -> fx.Node:
    """Return the patches that a convolution sees, `[B, positions, C x kernel]`."""
    found = moves(node)
    assert found is not None
    kernel = list(cast(fx.Node, node.args[1]).meta["val"].shape[2:])
    rest = (list(found.dilation), list(found.padding), list(found.stride))
    return _call(graph, aten.permute.default, _call(graph, aten.im2col.default, x, kernel, *rest), [0, 2, 1])


def _call(graph: fx.Graph, operator: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """Add a call to a graph, with the fake result that it has."""
    node = graph.call_function(operator, args, kwargs)
    given = fx.map_arg((args, kwargs), lambda value: value.meta["val"])
    values = cast(tuple[tuple[Any, ...], dict[str, Any]], given)
    mode = next(value.fake_mode for value in values[0] if hasattr(value, "fake_mode"))
    with mode:
        node.meta["val"] = operator(*values[0], **values[1])
    return node
