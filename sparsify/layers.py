"""Layers: the operators of a program that multiply what they get with a weight, and how each reads that weight."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx

from sparsify.axes.op import key_of
from sparsify.embedding import embedded_names, making
from sparsify.graph import aten, is_mask
from sparsify.kernels.parameter import parameter
from sparsify.layout import Layout
from sparsify.patches import Window, patches
from sparsify.program import Program

__all__ = ["TURNS", "Layer", "in_two_directions", "layers"]

TURNS = (aten.t.default, aten.transpose.int, aten.permute.default, aten.numpy_T.default)
"""Operators that give a weight the same numbers in another order of dimensions."""

_Arguments = Sequence[Any]

_CONVOLUTIONS = ("aten::conv1d", "aten::conv2d", "aten::conv3d")
_TRANSPOSED = ("aten::conv_transpose1d", "aten::conv_transpose2d", "aten::conv_transpose3d")
_RECURRENT = ("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu")
_GROUPED = ("aten::_grouped_mm", "transformers::grouped_mm_fallback")
_SAME = {
    aten.detach.default, aten.alias.default, aten.clone.default, aten.contiguous.default, aten._to_copy.default,
    aten.to.dtype, aten.lift_fresh_copy.default, parameter,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Layer:
    """An operator that multiplies its input with a weight; a weight that several operators read has several layers.

    Attributes:
        parameter: the name of the weight.
        node: the operator.
        layout: how it reads the weight.
        x: the argument that is multiplied with the weight; None where it is not a value of the graph (the states
            inside a recurrent layer), or what it meets is made of the weight.
        bias: the name of the parameter that is added to every output, if there is one.
        rows: from the operator's arguments as they are at run time, the rows that the weight's matrices multiply:
            `[G, N, K]`, or a list of G tensors `[N, K]`.
    """

    parameter: str
    node: fx.Node
    layout: Layout
    x: fx.Node | None = None
    bias: str | None = None
    rows: Callable[[_Arguments], Tensor | list[Tensor]] | None = None

    @property
    def module(self) -> str:
        """The module that the weight belongs to."""
        return self.parameter.rpartition(".")[0] or self.parameter


def layers(program: Program) -> list[Layer]:
    """Find the layers of a program in the order of its graph.

    Linear layers, convolutions (grouped and transposed, too), products with a parameter, experts in one grouped
    product and recurrent layers are found. A weight may be masked, cast or transposed before it is used. Of a weight
    that is made of others (`sparsify.embedding`) the parameter that has its name, if there is one, stands for it; its
    layer has no `x` and no `rows`, for it is not what the input is multiplied with.
    """
    found: list[Layer] = []
    made = making(program.graph)
    for node in program.graph.nodes:
        name = key_of(node) if node.op == "call_function" and node not in made else ""
        if name in _FINDERS:
            found.extend(_FINDERS[name](node, program.parameters))
    inside = {name for name in embedded_names(program) if name in program.parameters} - set(program.frozen)
    return [replace(layer, x=None, bias=None, rows=None) if layer.parameter in inside else layer for layer in found]


def in_two_directions(found: Sequence[Layer]) -> set[str]:
    """Return the weights that layers read in different ways, as an encoder and its transposed decoder do."""
    ways: dict[str, Layout] = {}
    return {layer.parameter for layer in found if ways.setdefault(layer.parameter, layer.layout) != layer.layout}


@dataclass(frozen=True)
class _Weight:
    """A parameter as an operator sees it: `dims[i]` is the parameter's dimension that is the i-th of the operand."""

    name: str
    dims: tuple[int, ...]


def _weight(value: Any, parameters: Mapping[str, Tensor]) -> _Weight | None:
    """Follow an operand back to the parameter that it is, through masks, casts and transpositions."""
    if not isinstance(value, fx.Node):
        return None
    if value.op == "get_attr":
        name = str(value.target)
        return _Weight(name, tuple(range(parameters[name].ndim))) if name in parameters else None
    if value.target is parameter and (name := str(value.args[1])) in parameters:
        return _Weight(name, tuple(range(parameters[name].ndim)))
    if is_mask(value) or value.target in _SAME:
        return _weight(value.args[1 if is_mask(value) else 0], parameters)
    if value.target not in TURNS:
        return None
    inner = _weight(value.args[0], parameters)
    if inner is None:
        return None
    order = list(range(len(inner.dims)))
    if value.target is aten.permute.default:
        order = [int(dim) for dim in value.args[1]]  # type: ignore[union-attr, arg-type]
    elif value.target is aten.transpose.int:
        one, other = int(value.args[1]), int(value.args[2])  # type: ignore[arg-type]
        order[one], order[other] = order[other], order[one]
    else:
        order.reverse()
    return _Weight(inner.name, tuple(inner.dims[dim] for dim in order))


def _linear(node: fx.Node, parameters: Mapping[str, Tensor]) -> list[Layer]:
    weight = _weight(node.args[1], parameters)
    if weight is None or len(weight.dims) != 2:
        return []
    out, inner = weight.dims
    return [Layer(weight.name, node, Layout((out,), (inner,)), _x(node, 0), _bias(node, 2, parameters), _flat_first)]


def _product(node: fx.Node, parameters: Mapping[str, Tensor]) -> list[Layer]:
    """A product `x @ W` with W [in, out], or with a W [batch, in, out] of its own for every index of a batch."""
    first = 1 if key_of(node) in ("aten::addmm", "aten::baddbmm") else 0
    weight = _weight(node.args[first + 1], parameters)
    if weight is None:
        return _product_from_left(node, first, parameters)
    if len(weight.dims) not in (2, 3):
        return []
    *batch, inner, out = weight.dims
    bias = _bias(node, 0, parameters) if first else None

    def rows(args: _Arguments) -> Tensor:
        x: Tensor = args[first]
        return x if batch else _flat(x)

    return [Layer(weight.name, node, Layout((out,), (inner,), batch=tuple(batch)), _x(node, first), bias, rows)]


def _product_from_left(node: fx.Node, first: int, parameters: Mapping[str, Tensor]) -> list[Layer]:
    """A product `W @ x` with W [out, in]."""
    weight = _weight(node.args[first], parameters)
    if weight is None or len(weight.dims) != 2:
        return []
    out, inner = weight.dims

    def rows(args: _Arguments) -> Tensor:
        return _flat(args[first + 1].transpose(-1, -2))

    return [Layer(weight.name, node, Layout((out,), (inner,)), _x(node, first + 1), rows=rows)]


def _grouped(node: fx.Node, parameters: Mapping[str, Tensor]) -> list[Layer]:
    """Rows in runs that end at `offs`, one run for each expert."""
    weight = _weight(node.args[1], parameters)
    if weight is None or len(weight.dims) != 3:
        return []
    group, inner, out = weight.dims

    def rows(args: _Arguments) -> list[Tensor]:
        ends = [0, *(int(end) for end in args[2])]
        return [args[0][start:end] for start, end in itertools.pairwise(ends)]

    x = _x(node, 0) if len(node.args) > 2 else None
    return [Layer(weight.name, node, Layout((out,), (inner,), batch=(group,)), x, rows=rows)]


def _convolution(node: fx.Node, parameters: Mapping[str, Tensor]) -> list[Layer]:
    weight = _weight(node.args[1], parameters)
    if weight is None:
        return []
    out, inner, *kernel = weight.dims
    groups = int(_argument(node, 6, "groups", 1))
    window = Window(
        size=tuple(parameters[weight.name].shape[dim] for dim in kernel),
        stride=_argument(node, 3, "stride", 1),
        padding=_argument(node, 4, "padding", 0),
        dilation=_argument(node, 5, "dilation", 1),
        groups=groups,
    )

    def rows(args: _Arguments) -> Tensor:
        return patches(args[0], window)

    layout = Layout((out,), (inner,), tuple(kernel), groups=groups)
    return [Layer(weight.name, node, layout, _x(node, 0), _bias(node, 2, parameters), rows)]


def _transposed(node: fx.Node, parameters: Mapping[str, Tensor]) -> list[Layer]:
    """Every position of the input is multiplied with the whole kernel."""
    weight = _weight(node.args[1], parameters)
    if weight is None:
        return []
    inner, out, *kernel = weight.dims
    groups = int(_argument(node, 6, "groups", 1))

    def rows(args: _Arguments) -> Tensor:
        x: Tensor = args[0].movedim(1, -1)
        return x.reshape(-1, groups, x.shape[-1] // groups).transpose(0, 1)

    layout = Layout((out, *kernel), (inner,), groups=groups, grouped_inputs=groups > 1)
    return [Layer(weight.name, node, layout, _x(node, 0), _bias(node, 2, parameters), rows)]


def _recurrent(node: fx.Node, parameters: Mapping[str, Tensor]) -> list[Layer]:
    weights = [arg for arg in node.args if isinstance(arg, (list, tuple))][-1]  # behind the states, which may be two
    found = [weight for value in weights if (weight := _weight(value, parameters)) and len(weight.dims) == 2]
    return [Layer(weight.name, node, Layout(weight.dims[:1], weight.dims[1:])) for weight in found]


def _bilinear(node: fx.Node, parameters: Mapping[str, Tensor]) -> list[Layer]:
    weight = _weight(node.args[2], parameters)
    return [Layer(weight.name, node, Layout(weight.dims[:1], weight.dims[1:]))] if weight else []


_FINDERS: dict[str, Callable[[fx.Node, Mapping[str, Tensor]], list[Layer]]] = {
    "aten::linear": _linear,
    **dict.fromkeys(("aten::mm", "aten::bmm", "aten::matmul", "aten::addmm", "aten::baddbmm"), _product),
    **dict.fromkeys(_GROUPED, _grouped),
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_TRANSPOSED, _transposed),
    **dict.fromkeys(_RECURRENT, _recurrent),
    "aten::bilinear": _bilinear,
}


def _x(node: fx.Node, index: int) -> fx.Node | None:
    value = node.args[index]
    return value if isinstance(value, fx.Node) else None


def _argument(node: fx.Node, index: int, name: str, default: Any) -> Any:
    return node.args[index] if index < len(node.args) else node.kwargs.get(name, default)


def _bias(node: fx.Node, index: int, parameters: Mapping[str, Tensor]) -> str | None:
    """Return the vector that an operator adds, if it is a parameter that nothing else reads."""
    value = node.args[index] if index < len(node.args) else None
    if isinstance(value, fx.Node) and is_mask(value) and len(value.users) == 1:
        value = value.args[1]
    if not isinstance(value, fx.Node) or value.op != "get_attr" or len(value.users) != 1:
        return None
    name = str(value.target)
    return name if name in parameters and parameters[name].ndim == 1 else None


def _flat_first(args: _Arguments) -> Tensor:
    return _flat(args[0])


def _flat(x: Tensor) -> Tensor:
    return x.reshape(1, -1, x.shape[-1])
