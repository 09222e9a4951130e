"""Cost of a program: parameters, non-zeros, multiply-accumulates and bytes, counted from shapes, never from a run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx

from sparsify.embedding import making
from sparsify.freezing import thawed
from sparsify.program import Program, check_program

__all__ = ["Cost", "cost", "macs_by_node"]

aten = torch.ops.aten
Shape = tuple[int, ...]
_SPARSE = re.compile(r"sparsify::\w+_linear")


@dataclass(frozen=True)
class Cost:
    """What a program costs.

    Attributes:
        parameters: number of values; tied parameters count once.
        nonzero: how many of them are not zero.
        macs: multiply-accumulates in convolutions and matrix products: of one example, if not said otherwise, where the
            batch size is dynamic, of the whole batch where the model fixes it.
        bytes: size of parameters and buffers in memory.
        trainable: how many values a training moves: not those that are masked or frozen.
    """

    parameters: int
    nonzero: int
    macs: int
    bytes: int
    trainable: int

    def as_dict(self) -> dict[str, int]:
        """Return the fields by name."""
        return asdict(self)


def cost(program: Program, batch: int = 1) -> Cost:
    """Count a program's cost. Masked weights count as zeros, frozen ones as what they stay at.

    Args:
        program: what to count.
        batch: how many examples the multiply-accumulates are those of, where the batch size is dynamic.

    Raises:
        UsageError: it is no program.
    """
    check_program(program)
    masks = program.masks
    values = (thawed(program) if program.frozen else program).parameters.items()
    chosen = {**masks, **program.frozen}
    return Cost(
        parameters=sum(value.numel() for _, value in values),
        nonzero=sum(_nonzero(value, masks.get(name)) for name, value in values),
        macs=sum(macs_by_node(program, batch=batch).values()),
        bytes=sum(v.numel() * v.element_size() for v in (*program.parameters.values(), *program.buffers.values())),
        trainable=sum(
            int(chosen[name].count_nonzero()) if name in chosen else value.numel()
            for name, value in program.parameters.items()
            if value.requires_grad
        ),
    )


def macs_by_node(
    program: Program,
    resize: Callable[[fx.Node, Shape], Shape] | None = None,
    nodes: Iterable[fx.Node] | None = None,
    *,
    batch: int = 1,
) -> dict[str, int]:
    """Return the multiply-accumulates of every node that has some.

    A dynamic batch dimension counts as `batch`; other symbolic sizes count as they are in the example. What
    makes an embedded parameter does not count: it does not grow with the examples.

    Args:
        program: what to count.
        resize: gives for a node and its shape the shape that it is to be counted with.
        nodes: count these alone.
        batch: the size of a dynamic batch dimension.
    """
    shapes, made = _Shapes(program, resize, batch), making(program.graph)
    counted = {}
    for node in program.graph.nodes if nodes is None else nodes:
        rule = _rule(node) if node.op == "call_function" and node not in made else None
        if rule is not None:
            counted[node.name] = rule(node, shapes)
    return counted


def _rule(node: fx.Node) -> Callable[[fx.Node, _Shapes], int] | None:
    schema = getattr(node.target, "_schema", None)
    return _sparse if schema is not None and _SPARSE.fullmatch(schema.name) else _RULES.get(node.target)


def _nonzero(value: Tensor, mask: Tensor | None) -> int:
    nonzero = value.detach() != 0
    return int(torch.count_nonzero(nonzero if mask is None else nonzero & mask))


class _Shapes:
    """Concrete shapes of nodes at one batch size."""

    def __init__(self, program: Program, resize: Callable[[fx.Node, Shape], Shape] | None, batch: int) -> None:
        symbol = program.batch_symbol
        self._resize = resize or (lambda node, shape: shape)
        self._substitution = {} if symbol is None else {symbol: batch}
        self._known: dict[Any, int] = {}  # substituting is slow, and few expressions are many nodes' sizes
        self._state: Mapping[str, Tensor] = {**program.parameters, **program.buffers}

    def __call__(self, node: Any) -> Shape:
        if not isinstance(node, fx.Node):
            return ()
        if node.op == "get_attr":
            return self._resize(node, tuple(self._state[str(node.target)].shape))
        value = node.meta.get("val")
        return self._resize(node, tuple(map(self._size, value.shape))) if isinstance(value, Tensor) else ()

    def _size(self, size: int | torch.SymInt) -> int:
        if isinstance(size, int):
            return size
        if size.node.expr not in self._known:
            expression = size.node.expr.subs(self._substitution)
            self._known[size.node.expr] = int(expression) if expression.is_number else int(size.node.hint)
        return self._known[size.node.expr]


def _convolution(node: fx.Node, shapes: _Shapes) -> int:
    weight = shapes(node.args[1])
    return math.prod(shapes(node)) * math.prod(weight[1:])


def _transposed(node: fx.Node, shapes: _Shapes) -> int:
    weight = shapes(node.args[1])
    return math.prod(shapes(node.args[0])) * math.prod(weight[1:])


def _general_convolution(node: fx.Node, shapes: _Shapes) -> int:
    return (_transposed if node.args[6] else _convolution)(node, shapes)


def _product(first: int) -> Callable[[fx.Node, _Shapes], int]:
    """The argument at `first` is multiplied by the next; its last dimension is summed over."""

    def count(node: fx.Node, shapes: _Shapes) -> int:
        left = shapes(node.args[first])
        return math.prod(shapes(node)) * (left[-1] if left else 1)

    return count


def _sparse(node: fx.Node, shapes: _Shapes) -> int:
    """A sparse operator multiplies every row of its input with what is stored of the weight."""
    return math.prod(shapes(node.args[0])[:-1]) * math.prod(shapes(node.args[1]))


def _attention(node: fx.Node, shapes: _Shapes) -> int:
    query, key, value = (shapes(argument) for argument in node.args[:3])
    scores = math.prod(query[:-1]) * key[-2]
    return scores * (query[-1] + value[-1])


def _einsum(node: fx.Node, shapes: _Shapes) -> int:
    """Multiply the sizes of all letters of two operands; more are contracted from left to right, as torch does.

    The dimensions of an ellipsis are lettered from the right, as they broadcast. One operand is not multiplied at all.
    """
    terms, _, result = str(node.args[0]).replace(" ", "").partition("->")
    operands = [shapes(operand) for operand in node.args[1]]  # type: ignore[union-attr]
    letters = [_spelled(term, len(shape)) for term, shape in zip(terms.split(","), operands, strict=True)]
    sizes: dict[str, int] = {}
    for term, shape in zip(letters, operands, strict=True):
        sizes.update((letter, max(size, sizes.get(letter, 1))) for letter, size in zip(term, shape, strict=True))
    wanted = set(sizes) if "->" not in str(node.args[0]) or "..." in result else set(result)
    total, left = 0, set(letters[0])
    for index, term in enumerate(letters[1:], 2):
        total += math.prod(sizes[letter] for letter in left | set(term))
        left = (left | set(term)) & wanted.union(*letters[index:])
    return total


def _spelled(term: str, rank: int) -> str:
    """Write the dimensions of `...` as digits that count from the right."""
    head, dots, tail = term.partition("...")
    return head + "".join(str(i) for i in reversed(range(rank - len(head) - len(tail)))) + tail if dots else term


def _recurrent(node: fx.Node, shapes: _Shapes) -> int:
    """LSTM, GRU and plain RNN: every step multiplies every weight matrix once."""
    steps = math.prod(shapes(node.args[0])[:-1])
    weights = [shapes(weight) for weight in node.args[2]]  # type: ignore[union-attr]
    return steps * sum(math.prod(weight) for weight in weights if len(weight) == 2)


_RULES: dict[Any, Callable[[fx.Node, _Shapes], int]] = {
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.conv3d.default: _convolution,
    aten.conv1d.padding: _convolution,
    aten.conv2d.padding: _convolution,
    aten.conv3d.padding: _convolution,
    aten.conv_transpose1d.default: _transposed,
    aten.conv_transpose2d.input: _transposed,
    aten.conv_transpose3d.input: _transposed,
    aten.convolution.default: _general_convolution,
    aten.linear.default: _product(0),
    aten.matmul.default: _product(0),
    aten.mm.default: _product(0),
    aten.bmm.default: _product(0),
    aten.mv.default: _product(0),
    aten.dot.default: _product(0),
    aten._grouped_mm.default: _product(0),
    aten.addmm.default: _product(1),
    aten.baddbmm.default: _product(1),
    aten.scaled_dot_product_attention.default: _attention,
    aten.einsum.default: _einsum,
    aten.lstm.input: _recurrent,
    aten.gru.input: _recurrent,
    aten.rnn_tanh.input: _recurrent,
    aten.rnn_relu.input: _recurrent,
}
