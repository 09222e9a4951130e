"""Sites: the masked weights of layers that a sparse operator could compute."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from torch import Tensor, fx

from sparsify.formats import Format
from sparsify.formats.bitmask import Bitmask
from sparsify.formats.block import BlockRows
from sparsify.formats.index import Index
from sparsify.formats.nm import Nm
from sparsify.graph import aten, mask_nodes
from sparsify.layers import TURNS, Layer, layers
from sparsify.layout import Layout
from sparsify.program import Program

__all__ = ["FORMS", "PRODUCTS", "Form", "Moves", "Site", "moves", "operator_of", "product_with", "sites"]

_LARGE = "it is a convolution larger than 1x1, which stays dense"
PRODUCTS = (aten.mm.default, aten.matmul.default)
"""Operators that multiply with a matrix and add nothing."""


class Form(NamedTuple):
    """How a format is handed to its operator.

    Attributes:
        operator: its name.
        others: what the format stores besides its values, in the order of the operator's arguments.
        numbers: further arguments by name.
    """

    operator: str
    others: tuple[str, ...]
    numbers: Callable[[Any], dict[str, int]]


def _inputs(found: Format) -> dict[str, int]:
    return {"inputs": found.shape[1]}


FORMS: dict[type[Format], Form] = {
    Index: Form("index_linear", ("columns", "offsets"), _inputs),
    Bitmask: Form("bitmask_linear", ("bits", "offsets"), _inputs),
    Nm: Form("nm_linear", ("codes",), lambda found: {"n": found.n, "m": found.m, **_inputs(found)}),
    BlockRows: Form(
        "block_linear", ("columns", "offsets"), lambda found: {"outputs": found.shape[0], **_inputs(found)}
    ),
}


class Moves(NamedTuple):
    """How the kernel of a two-dimensional convolution moves."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True)
class Site:
    """A masked weight of layers.

    Attributes:
        name: of the parameter.
        layout: how the layers read it.
        nodes: that multiply with it.
        reason: why it cannot be lowered; empty if it can.
        patched: the layers are convolutions that see patches of images, not single positions.
    """

    name: str
    layout: Layout
    nodes: tuple[fx.Node, ...]
    reason: str = ""
    patched: bool = False

    def matrix(self, value: Tensor) -> Tensor:
        """Return a tensor of the parameter's shape as a matrix `[N, K]`."""
        return self.layout.matrices(value)[0].contiguous()


def operator_of(kind: type[Format]) -> Any:
    """Return the operator that multiplies with a format, and register it with torch."""
    name = FORMS[kind].operator
    return getattr(importlib.import_module(f"sparsify.kernels.{name}"), name)


def product_with(found: Format) -> Callable[[Tensor], Tensor]:
    """Return what multiplies values `[..., K]` with a weight in a format: `[..., N]`."""
    form, operator = FORMS[type(found)], operator_of(type(found))
    tensors = [found.tensors[name] for name in ("values", *form.others)]
    return lambda x: operator(x, *tensors, None, "none", **form.numbers(found))


def sites(program: Program, *, patches: bool = False) -> list[Site]:
    """Return the masked weights that layers multiply with, those that cannot be lowered with the reason.

    Args:
        program: with masks.
        patches: convolutions of any size count as products with patches of their images.
    """
    found: dict[str, list[Layer]] = {}
    for layer in layers(program):
        if layer.parameter in program.masks:
            found.setdefault(layer.parameter, []).append(layer)
    readers: dict[str, set[fx.Node]] = {}
    for mask in mask_nodes(program.graph):
        readers.setdefault(str(mask.all_input_nodes[1].target), set()).update(_readers(mask))
    return [_site(program, name, known, readers[name], patches) for name, known in found.items()]


def moves(node: fx.Node) -> Moves:
    """Return how a two-dimensional convolution moves."""
    values = {3: 1, 4: 0, 5: 1, **{place: node.args[place] for place in range(3, min(6, len(node.args)))}}
    pairs = [tuple(int(n) for n in v) if isinstance(v, (list, tuple)) else (int(v),) for v in values.values()]  # type: ignore[arg-type]
    return Moves(*(cast(tuple[int, int], pair if len(pair) == 2 else pair * 2) for pair in pairs))


def _site(program: Program, name: str, known: Sequence[Layer], readers: set[fx.Node], patches: bool) -> Site:
    layout, nodes = known[0].layout, tuple(layer.node for layer in known)
    kernel = [program.parameters[name].shape[dim] for dim in layout.kernel]
    reason = _why_not(program, known, readers)
    if len(kernel) != 2 or reason:
        return Site(name, layout, nodes, reason)
    if any(node.meta["val"].ndim != 4 for node in nodes):
        return Site(name, layout, nodes, "it is given images without a batch")
    skipping = [node for node in nodes if moves(node)[:2] != ((1, 1), (0, 0))]
    patched = max(kernel) > 1 or bool(skipping)
    if patched and patches:
        reason = _unfit_patches(nodes)
    elif patched:
        reason = _LARGE if max(kernel) > 1 else f"{skipping[0].name} has a stride or padding"
    return Site(name, layout, nodes, reason, patched)


def _unfit_patches(nodes: Sequence[fx.Node]) -> str:
    dilated = [node.name for node in nodes if moves(node).dilation != (1, 1)]
    return f"the kernel of {dilated[0]} is dilated" if dilated else ""


def _why_not(program: Program, known: Sequence[Layer], readers: set[fx.Node]) -> str:
    layout, shape = known[0].layout, program.parameters[known[0].parameter].shape
    if len(shape) - len(layout.kernel) != 2 or layout.batch or layout.groups > 1:
        return "it is no single matrix"
    if any(shape[dim] > 1 for dim in layout.kernel) and len(layout.kernel) != 2:
        return _LARGE
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
    if node.target in (aten.linear.default, aten.conv2d.default):
        bias: Any = node.args[2] if len(node.args) > 2 else None
        outputs = node.meta["val"].shape[-1 if node.target is aten.linear.default else -3]
        return "" if bias is None or bias.meta["val"].shape == (outputs,) else f"the bias of {node.name} is broadcast"
    if node.target in PRODUCTS:
        return "" if layer.x is node.args[0] else f"{node.name} multiplies from the left"
    if node.target is aten.addmm.default:
        plain, added = not node.kwargs and len(node.args) == 3 and layer.x is node.args[1], cast(fx.Node, node.args[0])
        fits = added.meta["val"].shape == node.meta["val"].shape[-1:]
        return "" if plain and fits else f"{node.name} adds something else than a bias"
    return f"the operator {getattr(getattr(node.target, '_schema', None), 'name', node.target)} has no sparse one"
