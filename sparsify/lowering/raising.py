"""Raising: dense layers with zeros in the place of sparse operators, for files that know only those."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode

from sparsify.formats.nm import Nm
from sparsify.graph import aten, attribute
from sparsify.lowering.rewriting import ACTIVATIONS
from sparsify.lowering.sites import FORMS
from sparsify.program import Program
from sparsify.shapes import fake, fake_mode

__all__ = ["raised", "sparse_layers"]

_RAISABLE = re.compile(r"sparsify::(index|bitmask|nm|block)_linear")


class _Convolution(NamedTuple):
    """The convolution that a sparse operator between permutations is.

    Attributes:
        x: its images.
        kernel: its size.
        moves: stride and padding.
        last: the node that has what it computes.
    """

    x: fx.Node
    kernel: tuple[int, int]
    moves: tuple[Any, ...]
    last: fx.Node


def sparse_layers(program: Program) -> list[tuple[fx.Node, str]]:
    """Return the sparse operators of a program, and the names of their values."""
    found = [node for node in program.graph.nodes if _RAISABLE.fullmatch(getattr(_schema(node), "name", ""))]
    return [(node, str(node.args[1].target)) for node in found]


def raised(program: Program) -> Program:
    """Return the program with dense layers in the place of sparse operators, zeros where nothing is stored."""
    known = sparse_layers(program)
    if not known:
        return program
    graph = program.copy_graph()
    here = {node.name: node for node in graph.nodes}
    mode = fake_mode(program) or FakeTensorMode()
    parameters = dict(program.parameters)
    for original, values in known:
        node = here[original.name]
        x: Any = node.args[0]
        convolution = _convolution(node)
        weight = values.removesuffix("_values")
        if weight not in parameters:
            dense = _dense(program, node, int(x.meta["val"].shape[-1]))
            if convolution is not None:
                dense = dense.view(dense.shape[0], -1, *convolution.kernel)
            parameters[weight] = nn.Parameter(dense, requires_grad=program.parameters[values].requires_grad)
        _put(graph, node, convolution, weight, fake(parameters[weight], mode))
    return replace(program, parameters=parameters).with_graph(graph)


def _put(graph: fx.Graph, node: fx.Node, convolution: _Convolution | None, weight: str, value: Tensor) -> None:
    """Put a dense layer, and the activation behind it, in the place of a sparse operator."""
    bias, name = _argument(node, "bias"), _argument(node, "activation")
    last = node if convolution is None else convolution.last
    read = attribute(graph, weight)
    with graph.inserting_before(node):
        if convolution is None:
            layer = graph.call_function(aten.linear.default, (node.args[0], read, bias))
        else:
            layer = graph.call_function(aten.conv2d.default, (convolution.x, read, bias, *convolution.moves))
        read.meta["val"], layer.meta = value, dict(last.meta)
        activation = next((operator for operator, known in ACTIVATIONS.items() if known == name), None)
        if activation is not None:
            layer = graph.call_function(activation, (layer,))
            layer.meta = dict(last.meta)
    last.replace_all_uses_with(layer)


def _convolution(node: fx.Node) -> _Convolution | None:
    """Recognise what `rewriting` makes of convolutions; anybody else's node that is the same is one, too."""
    back = _only_user(node, aten.permute.default)
    if back is None:
        return None
    before: Any = node.args[0]
    last = _only_user(back, aten.contiguous.default)
    if last is None or back.args[1] != [0, 3, 1, 2]:
        return None
    if _called(before, aten.permute.default, [0, 2, 3, 1]):
        return _Convolution(before.args[0], (1, 1), (), last)
    flat = _is(before, aten.flatten.using_ints) and list(before.args[1:]) == [3, 5]
    return _of_patches(before.args[0], last) if flat else None


def _of_patches(turned: Any, last: fx.Node) -> _Convolution | None:
    """Recognise the patches of images, `[B, height, width, C, *kernel]`: padded and unfolded twice."""
    if not _called(turned, aten.permute.default, [0, 2, 3, 1, 4, 5]):
        return None
    across: Any = turned.args[0]
    if not _is(across, aten.unfold.default) or across.args[1] != 3 or not _is(across.args[0], aten.unfold.default):
        return None
    down: Any = across.args[0]
    x, sides = down.args[0], [0, 0, 0, 0]
    if _is(x, aten.pad.default):
        x, sides = x.args[0], list(x.args[1])
    kernel, stride = (down.args[2], across.args[2]), (down.args[3], across.args[3])
    plain = not _is(down.args[0], aten.pad.default) or len(down.args[0].args) == 2
    symmetric = len(sides) == 4 and sides[0] == sides[1] and sides[2] == sides[3]
    if (down.args[1], plain, symmetric) != (2, True, True):
        return None
    return _Convolution(x, kernel, (list(stride), [sides[2], sides[0]]), last)


def _only_user(node: fx.Node, target: Any) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and _is(users[0], target) else None


def _called(node: Any, target: Any, order: list[int]) -> bool:
    return _is(node, target) and list(node.args[1]) == order


def _is(node: Any, target: Any) -> bool:
    return isinstance(node, fx.Node) and node.target is target


def _dense(program: Program, node: fx.Node, inputs: int) -> Tensor:
    """Return the weight of a sparse operator as a matrix, bit for bit."""
    kind = next(kind for kind, form in FORMS.items() if f"sparsify::{form.operator}" == _schema(node).name)
    count = 1 + len(FORMS[kind].others)
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
