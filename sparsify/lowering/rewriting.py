"""Rewriting: layers become sparse operators, and the activations behind them part of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode

from sparsify.formats import Format
from sparsify.graph import aten, attribute
from sparsify.lowering.sites import FORMS, PRODUCTS, Site, moves, operator_of
from sparsify.program import Program
from sparsify.shapes import derived, fake, fake_mode

__all__ = ["ACTIVATIONS", "alone", "lowered"]

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
            attributes = [attribute(graph, name) for name in names]
            for made, name in zip(attributes, names, strict=True):
                made.meta["val"] = fake({**parameters, **buffers}[name], mode)
            _replace(graph, node, site, form, attributes)
    return replace(program, parameters=parameters, buffers=buffers).with_graph(graph)


def _replace(graph: fx.Graph, node: fx.Node, site: Site, form: Format, attributes: list[fx.Node]) -> None:
    """Put a sparse operator in the place of a layer and of the activation behind it."""
    x, bias = _given(node)
    last, activation = _activated(node)
    with graph.inserting_before(node):
        made = _product(graph, node, site, form, (x, *attributes, bias, activation))
    made.meta = {**last.meta, "val": made.meta["val"]}
    last.replace_all_uses_with(made)


def alone(node: fx.Node, site: Site, form: Format) -> Callable[..., Tensor]:
    """Return a layer in a format as a function of the arguments that the layer has in its graph."""
    graph = fx.Graph()
    x, bias = _given(node)
    tensors = form.tensors
    names = ("values", *FORMS[type(form)].others)
    mode = x.meta["val"].fake_mode
    nodes = {name: graph.placeholder(name) for name in ("x", *names, *(["bias"] if bias is not None else []))}
    for name, placeholder in nodes.items():
        known = {"x": x, "bias": bias}.get(name)
        placeholder.meta["val"] = fake(tensors[name], mode) if known is None else known.meta["val"]
    first, *stored = (nodes[name] for name in ("x", *names))
    graph.output(_product(graph, node, site, form, (first, *stored, nodes.get("bias"), "none")))
    module = fx.GraphModule(nn.Module(), graph)
    added = node.target is aten.addmm.default

    def call(*args: Any) -> Tensor:
        given = [args[1 if added else 0], *(tensors[name] for name in names)]
        found: Tensor = module(*given, *([args[0 if added else 2]] if bias is not None else []))
        return found

    return call


def _given(node: fx.Node) -> tuple[fx.Node, fx.Node | None]:
    """Return what a layer multiplies, and its bias."""
    if node.target is aten.addmm.default:
        return cast(fx.Node, node.args[1]), cast(fx.Node, node.args[0])
    bias = node.args[2] if node.target not in PRODUCTS and len(node.args) > 2 else None
    return cast(fx.Node, node.args[0]), cast("fx.Node | None", bias)


def _product(graph: fx.Graph, node: fx.Node, site: Site, form: Format, arguments: tuple[Any, ...]) -> fx.Node:
    """Add the product of a layer to a graph, with the way from images and back around it."""
    x, *others = arguments
    numbers = FORMS[type(form)].numbers(form)
    if node.target is aten.conv2d.default:
        x = _patches(graph, node, x) if site.patched else _call(graph, aten.permute.default, x, [0, 2, 3, 1])
        made = _call(graph, operator_of(type(form)), x, *others, **numbers)
        made = _call(graph, aten.permute.default, made, [0, 3, 1, 2])
        return _call(graph, aten.contiguous.default, made)  # a view may follow
    return _call(graph, operator_of(type(form)), x, *others, **numbers)


def _activated(node: fx.Node) -> tuple[fx.Node, str]:
    """Return the activation that alone reads a layer, and its name; else the layer itself."""
    user = next(iter(node.users)) if len(node.users) == 1 else node
    name = ACTIVATIONS.get(cast(Any, user.target))
    return (user, name) if name and len(user.args) == 1 and not user.kwargs else (node, "none")


def _patches(graph: fx.Graph, node: fx.Node, x: fx.Node) -> fx.Node:
    """Return the patches that a convolution sees, `[B, height, width, C x kernel]`, of images of any size.

    `aten.im2col` would do, but to derive its shape is to fix the size of the batch.
    """
    found = moves(node)
    kernel = cast(fx.Node, node.args[1]).meta["val"].shape[2:]
    (down, across), (stride_down, stride_across) = found.padding, found.stride
    if found.padding != (0, 0):
        x = _call(graph, aten.pad.default, x, [across, across, down, down])
    x = _call(graph, aten.unfold.default, x, 2, kernel[0], stride_down)
    x = _call(graph, aten.unfold.default, x, 3, kernel[1], stride_across)
    x = _call(graph, aten.permute.default, x, [0, 2, 3, 1, 4, 5])
    return _call(graph, aten.flatten.using_ints, x, 3, 5)


def _call(graph: fx.Graph, operator: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """Add a call to a graph, with the fake result that it has."""
    node = graph.call_function(operator, args, kwargs)
    node.meta["val"] = derived(node)
    return node
