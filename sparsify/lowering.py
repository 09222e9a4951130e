"""Lowering: masked linear layers become operators on sparse formats, and back."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode

from sparsify.errors import PassError
from sparsify.formats import Format
from sparsify.formats.bitmask import Bitmask
from sparsify.formats.block import BlockRows
from sparsify.formats.index import Index
from sparsify.formats.nm import Nm
from sparsify.graph import aten, mask_nodes
from sparsify.layers import TURNS, Layer, layers
from sparsify.layout import Layout
from sparsify.program import Program
from sparsify.pruning.candidates import check_patterns, matches
from sparsify.shapes import fake, fake_mode

__all__ = ["Site", "lower", "lowered", "operator_of", "raised", "sites"]

_PRODUCTS = (aten.mm.default, aten.matmul.default)
_RAISABLE = re.compile(r"sparsify::(index|bitmask|nm|block)_linear")


@dataclass(frozen=True)
class Site:
    """A masked weight of linear layers.

    Attributes:
        name: of the parameter.
        layout: how the layers read it.
        nodes: that multiply with it.
        reason: why it cannot be lowered; empty if it can.
    """

    name: str
    layout: Layout
    nodes: tuple[fx.Node, ...]
    reason: str = ""

    def matrix(self, value: Tensor) -> Tensor:
        """Return a tensor of the parameter's shape as a matrix `[N, K]`."""
        return self.layout.matrices(value)[0].contiguous()


class _Form(NamedTuple):
    """How a format is handed to its operator."""

    operator: str
    others: tuple[str, ...]
    numbers: Callable[[Any], dict[str, int]]


_FORMS: dict[type[Format], _Form] = {
    Index: _Form("index_linear", ("columns", "offsets"), lambda found: {}),
    Bitmask: _Form("bitmask_linear", ("bits", "offsets"), lambda found: {}),
    Nm: _Form("nm_linear", ("codes",), lambda found: {"n": found.n, "m": found.m}),
    BlockRows: _Form("block_linear", ("columns", "offsets"), lambda found: {"outputs": found.shape[0]}),
}


def operator_of(kind: type[Format]) -> Any:
    """Return the operator that multiplies with a format, and register it with torch."""
    name = _FORMS[kind].operator
    return getattr(importlib.import_module(f"sparsify.kernels.{name}"), name)


def sites(program: Program) -> list[Site]:
    """Return the masked weights that layers multiply with, those that cannot be lowered with the reason."""
    found: dict[str, list[Layer]] = {}
    for layer in layers(program):
        if layer.parameter in program.masks:
            found.setdefault(layer.parameter, []).append(layer)
    readers: dict[str, set[fx.Node]] = {}
    for mask in mask_nodes(program.graph):
        readers.setdefault(str(mask.all_input_nodes[1].target), set()).update(_readers(mask))
    return [
        Site(name, known[0].layout, tuple(layer.node for layer in known), _why_not(program, known, readers[name]))
        for name, known in found.items()
    ]


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
        names = [values, *(f"{site.name}_{name}" for name in _FORMS[type(form)].others)]
        for original in site.nodes:
            node = here[original.name]
            with graph.inserting_before(node):
                attributes = [graph.create_node("get_attr", name) for name in names]
            for attribute, name in zip(attributes, names, strict=True):
                attribute.meta["val"] = fake({**parameters, **buffers}[name], mode)
            _replace(graph, node, form, attributes)
    return replace(program, parameters=parameters, buffers=buffers).with_graph(graph)


def raised(program: Program) -> Program:
    """Return the program with dense layers in the place of sparse operators, zeros where nothing is stored."""
    graph = program.copy_graph()
    nodes: list[Any] = [node for node in graph.nodes if _RAISABLE.fullmatch(getattr(_schema(node), "name", ""))]
    if not nodes:
        return program
    mode = fake_mode(program) or FakeTensorMode()
    parameters = dict(program.parameters)
    for node in nodes:
        x: Any = node.args[0]
        values = str(node.args[1].target)
        inputs = int(x.meta["val"].shape[-1])
        weight = values.removesuffix("_values")
        if weight not in parameters:
            dense = _dense(program, node, inputs)
            parameters[weight] = nn.Parameter(dense, requires_grad=program.parameters[values].requires_grad)
        bias = _argument(node, "bias")
        with graph.inserting_before(node):
            attribute = graph.create_node("get_attr", weight)
            layer = graph.call_function(aten.linear.default, (x, attribute, bias))
        attribute.meta["val"], layer.meta = fake(parameters[weight], mode), dict(node.meta)
        node.replace_all_uses_with(layer)
    return replace(program, parameters=parameters).with_graph(graph)


def _why_not(program: Program, known: Sequence[Layer], readers: set[fx.Node]) -> str:
    layout, shape = known[0].layout, program.parameters[known[0].parameter].shape
    if len(shape) - len(layout.kernel) != 2 or layout.batch or layout.groups > 1:
        return "it is no single matrix"
    if any(shape[dim] > 1 for dim in layout.kernel):
        return "it is a convolution larger than 1x1, which stays dense"
    if any(layer.layout != layout for layer in known):
        return "layers read it in two directions"
    if readers != {layer.node for layer in known}:
        return "something else reads it, too"
    return next((reason for layer in known if (reason := _unfit(layer))), "")


def _readers(node: fx.Node) -> set[fx.Node]:
    """Return who reads a weight, behind transpositions."""
    found: set[fx.Node] = set()
    for user in node.users:
        found |= _readers(user) if user.target in TURNS else {user}
    return found


def _unfit(layer: Layer) -> str:
    node = layer.node
    if layer.x is None:
        return f"{node.name} multiplies with something else"
    if node.target is aten.linear.default:
        return ""
    if node.target in _PRODUCTS:
        return "" if layer.x is node.args[0] else f"{node.name} multiplies from the left"
    if node.target is aten.addmm.default:
        plain, added = not node.kwargs and len(node.args) == 3 and layer.x is node.args[1], cast(fx.Node, node.args[0])
        return "" if plain and added.meta["val"].ndim == 1 else f"{node.name} adds more than a bias"
    if node.target is aten.conv2d.default:
        plain = [_number(node, place) for place in (3, 4)] == [{1}, {0}]
        return "" if plain else f"{node.name} has a stride or padding"
    return f"the operator {getattr(_schema(node), 'name', node.target)} has no sparse one"


def _number(node: fx.Node, place: int) -> set[int]:
    value = node.args[place] if place < len(node.args) else {3: 1, 4: 0}[place]
    return {int(number) for number in (value if isinstance(value, (list, tuple)) else [value])}  # type: ignore[arg-type]


def _replace(graph: fx.Graph, node: fx.Node, form: Format, attributes: list[fx.Node]) -> None:
    """Put a sparse operator in the place of a layer."""
    operator = operator_of(type(form))
    numbers: dict[str, Any] = _FORMS[type(form)].numbers(form)
    convolution, added = node.target is aten.conv2d.default, node.target is aten.addmm.default
    x = node.args[1 if added else 0]
    bias = node.args[0] if added else node.args[2] if node.target not in _PRODUCTS and len(node.args) > 2 else None
    with graph.inserting_before(node):
        if convolution:
            x = _permuted(graph, x, (0, 2, 3, 1))
        made = graph.call_function(operator, (x, *attributes, bias), numbers)
        made.meta = dict(node.meta)
        if convolution:
            made.meta["val"] = made.meta["val"].permute(0, 2, 3, 1)
            made = _permuted(graph, made, (0, 3, 1, 2))
    node.replace_all_uses_with(made)


def _permuted(graph: fx.Graph, value: Any, order: tuple[int, ...]) -> fx.Node:
    node = graph.call_function(aten.permute.default, (value, list(order)))
    node.meta["val"] = value.meta["val"].permute(order)
    return node


def _dense(program: Program, node: fx.Node, inputs: int) -> Tensor:
    """Return the weight of a sparse operator as a matrix, bit for bit."""
    kind = next(kind for kind, form in _FORMS.items() if f"sparsify::{form.operator}" == _schema(node).name)
    form = _FORMS[kind]
    count = 1 + len(form.others)
    state, arguments = {**program.parameters, **program.buffers}, list[Any](node.args)
    tensors = [state[str(value.target)].detach() for value in arguments[1 : 1 + count]]
    outputs = int(node.meta["val"].shape[-1])
    more = [_argument(node, name) for name in ("n", "m")] if kind is Nm else []
    return kind((outputs, inputs), *tensors, *more).decode()


def _argument(node: fx.Node, name: str) -> Any:
    for place, argument in enumerate(_schema(node).arguments):
        if argument.name == name:
            return node.args[place] if place < len(node.args) else node.kwargs.get(name, argument.default_value)
    raise KeyError(name)


def _schema(node: fx.Node) -> Any:
    return getattr(node.target, "_schema", None)


def lower(
    program: Program,
    record: dict[str, Any],
    encode: Callable[[Tensor, Tensor], Format | str],
    *,
    only: Sequence[str],
    protect: Sequence[str],
) -> Program:
    """Lower all masked linear layers that can be; note in a record what became of each.

    Args:
        program: with masks.
        record: takes `lowered`, by weight its `density` and `bytes` before and after, and `skipped` with reasons.
        encode: makes the format of a matrix `[N, K]` and its mask, or says why it has none.
        only: names or patterns of modules and parameters; others are left out.
        protect: names or patterns of those that stay.

    Raises:
        PassError: nothing can be lowered, or a pattern matches no parameter.
    """
    check_patterns("only", only, program)
    check_patterns("protect", protect, program)
    formats: dict[Site, Format] = {}
    skipped: dict[str, str] = {}
    record["lowered"], record["skipped"] = {}, skipped
    for site in sites(program):
        reason = site.reason
        if matches(site.name, protect) or (only and not matches(site.name, only)):
            reason = "it is protected" if matches(site.name, protect) else "it is not among only="
        weight, mask = program.parameters[site.name].detach(), program.masks[site.name]
        found = reason or encode(site.matrix(weight), site.matrix(mask))
        if isinstance(found, str):
            skipped[site.name] = found
            continue
        formats[site] = found
        density, size = round(float(mask.float().mean()), 6), f"{weight.nbytes} -> {found.nbytes}"
        record["lowered"][site.name] = {"density": density, "bytes": size}
    if not formats:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise PassError(
            "There is no masked linear layer to lower "
            + (f"({reasons})." if reasons else "(no weight has a mask: a pass such as weight-prune makes them).")
        )
    return lowered(program, formats)
