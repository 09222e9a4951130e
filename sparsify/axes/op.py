"""What a rule sees of a node, what it can say about it, and the table of rules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import SymInt, Tensor, fx

from sparsify.axes.axis import DYNAMIC, ONE, Axis, factors, find, freeze_all, leaves, unify

if TYPE_CHECKING:
    from sparsify.axes.resize import Resizing

__all__ = ["RULES", "Facts", "Op", "Role", "Rule", "axis_rule", "fresh", "is_foreign", "key_of"]

Dims = list[Axis]
Place = int | str
Fix = Callable[["Resizing"], None]
Role = Literal["made", "added", "repeated", "heads", "head-dim", "conv-groups", "experts"]


@dataclass(slots=True)
class Facts:
    """What a rule says about a node besides the axes of its result.

    Attributes:
        factors: the result is zero where one of these values is.
        addends: and where all of these values are zero.
        parts: the result is zero at an index where those of these values that have its axis are.
        zero: the result is zero everywhere.
        sums: axes that are summed over, each with the values of which one must be zero for an index to add nothing.
        counts: axes whose number of indices matters to the result, as in a mean.
        poles: values that must not be zero along some axes, or along any (None).
        sizes: arguments that hold the size of an axis, or of several.
        fixes: what else must be done to the node when one of the axes has changed its size.
        roles: what axes are to the operator: heads of an attention, groups of a convolution.
        least: how many indices axes must keep.
        content: what the numbers of an integer result are indices of; by position where there are several results.
        read: values whose content the rule has taken into account.
    """

    factors: Sequence[fx.Node] = ()
    addends: Sequence[fx.Node] = ()
    parts: Sequence[fx.Node] = ()
    zero: bool = False
    sums: list[tuple[Axis, Sequence[fx.Node]]] = field(default_factory=list)
    counts: list[Axis] = field(default_factory=list)
    poles: list[tuple[fx.Node, Dims | None]] = field(default_factory=list)
    sizes: list[tuple[Place, Axis | Dims]] = field(default_factory=list)
    fixes: list[tuple[Dims, Fix]] = field(default_factory=list)
    roles: list[tuple[Axis, Role]] = field(default_factory=list)
    least: list[tuple[Axis, int]] = field(default_factory=list)
    content: Axis | dict[int, Axis] | None = None
    read: set[fx.Node] = field(default_factory=set)


def fresh(size: int | SymInt, frozen: str = "") -> Axis:
    """Return a new axis of a size; a dynamic one is frozen."""
    if type(size) is int:
        return ONE if size == 1 else Axis(size, frozen)
    assert isinstance(size, SymInt)
    return Axis(size.node.hint, frozen or DYNAMIC, dynamic=True)


class Op:
    """A node, as a rule sees it. A rule returns the axes of the result, or a tuple of them for several results.

    Attributes:
        node: the node.
        facts: what the rule says of it.
    """

    __slots__ = ("_contents", "_dims", "facts", "node")

    def __init__(self, node: fx.Node, dims: dict[fx.Node, Any], contents: dict[fx.Node, Any]) -> None:
        self.node = node
        self.facts = Facts()
        self._dims = dims
        self._contents = contents

    def arg(self, index: int, name: str = "", default: Any = None) -> Any:
        """Return an argument, wherever it was given."""
        args = self.node.args
        return args[index] if index < len(args) else self.node.kwargs.get(name, default)

    def place(self, index: int, name: str = "") -> Place:
        """Return where an argument was given: its position or its name."""
        return index if index < len(self.node.args) else name

    def dims(self, value: Any) -> Dims:
        """Return the axes of a tensor argument, slowest first; none for a number."""
        found: Dims = self._dims.get(value, []) if isinstance(value, fx.Node) else []
        return found

    def results(self, value: fx.Node) -> Sequence[Dims]:
        """Return the axes of each result of an argument that has several results."""
        found: Sequence[Dims] = self._dims[value]
        return found

    @property
    def name(self) -> str:
        """The name of the operator with its overload: `slice.Tensor`."""
        return str(getattr(self.node.target, "__name__", self.node.target))

    @property
    def shape(self) -> list[int | SymInt]:
        """The sizes of the result."""
        value = self.node.meta["val"]
        assert isinstance(value, Tensor)
        return list(value.shape)

    def fixed(self, reason: str) -> Dims:
        """Return new axes for the result that may not change their size."""
        return [fresh(size, reason) for size in self.shape]

    def freeze(self, axes: Iterable[Axis], reason: str) -> None:
        """Say that axes must keep their size; the reason is read by users: `it is sorted`."""
        freeze_all(axes, reason)

    def same(self, a: Axis, b: Axis) -> None:
        """Say that two dimensions are the same."""
        unify(a, b)

    def broadcast(self, *values: Any) -> Dims:
        """Align the dimensions of values as elementwise operators do, and return those of the result."""
        return self.broadcast_dims([self._dims[value] for value in values if isinstance(value, fx.Node)])

    def broadcast_dims(self, operands: Sequence[Dims]) -> Dims:
        """Align lists of axes at their ends, and return the axes of the result."""
        if not operands:
            return []
        longest = max(operands, key=len)
        result = list(longest)
        for dims in operands:
            if dims is longest:
                continue
            for index in range(-len(dims), 0):
                axis, other = result[index], dims[index]
                if axis is other or other is ONE:
                    continue
                if axis is ONE:
                    result[index] = other
                elif find(other) is not find(axis):
                    if find(axis) is ONE:
                        result[index] = other
                    elif find(other) is not ONE:
                        unify(axis, other)
        return result

    def size_at(self, place: Place, axes: Axis | Dims) -> None:
        """Say that an argument holds the size of an axis, or a list of sizes."""
        self.facts.sizes.append((place, axes))

    def fix(self, axes: Dims, how: Fix) -> None:
        """Say what must be done to the node when one of the axes has changed its size."""
        self.facts.fixes.append((axes, how))

    def zero_where(self, *factors: Any, addends: Sequence[Any] = (), parts: Sequence[Any] = ()) -> None:
        """Say where the result is zero: where one of `factors` and all of `addends` (None aside) are."""
        self.facts.factors = [value for value in factors if isinstance(value, fx.Node)]
        self.facts.addends = [value for value in addends if value is not None]
        self.facts.parts = parts

    def sums(self, axes: Iterable[Axis], *values: Any) -> None:
        """Say that axes are summed over; an index adds nothing if one of the values is zero there."""
        nodes = [value for value in values if isinstance(value, fx.Node)]
        self.facts.sums.extend((axis, nodes) for axis in axes)

    def counts(self, axes: Iterable[Axis]) -> None:
        """Say that the result depends on how many indices axes have: removing one is not the same as masking it."""
        self.facts.counts.extend(axes)

    def pole(self, value: Any, axes: Dims | None = None) -> None:
        """Say that the result is not finite where a value is zero along one of its axes (any if none are given)."""
        if isinstance(value, fx.Node):
            self.facts.poles.append((value, axes))

    def at_least(self, axis: Axis, size: int) -> None:
        """Say that an axis needs a number of indices."""
        self.facts.least.append((axis, size))

    def role(self, role: Role, *axes: Axis) -> None:
        """Say what axes are to the operator; groups are named and chosen by it."""
        self.facts.roles.extend((axis, role) for axis in axes)

    def content(self, value: Any, result: int | None = None) -> Axis | None:
        """Return the axis that the numbers of an integer value are indices of; the rule now answers for them."""
        self.facts.read.add(value)
        found = self._contents.get(value)
        return found.get(result) if isinstance(found, dict) else found

    def prunable(self, axis: Axis) -> bool:
        """Whether an index of the axis might still be removed."""
        return any(not leaf.frozen for leaf in leaves(axis))

    def factors(self, axis: Axis) -> list[Axis]:
        """Return the factors of an axis."""
        return factors(axis)


Rule = Callable[[Op], Any]
RULES: dict[str, Rule] = {}
"""The rules by operator, such as `aten::linear`, for all overloads together."""


def axis_rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators, such as `mylib::scale`; a function decorated with this is all that it takes.

    The rule gets an `Op` and returns the axes of the result: one `Axis` for each dimension, or a tuple of such lists.

    Example:
        >>> @axis_rule("mylib::scale")          # elementwise, and zero where its input is
        ... def scale(op):
        ...     op.zero_where(op.arg(0))
        ...     return op.dims(op.arg(0))

    Raises:
        ValueError: a name is not of the form `namespace::name`, or sparsify itself has a rule for the operator.
    """
    for name in operators:
        if name.count("::") != 1:
            raise ValueError(f"{name!r} is not the name of an operator; write namespace::name, such as mylib::scale")

    def register(rule: Rule) -> Rule:
        if not rule.__module__.startswith("sparsify."):
            importlib.import_module("sparsify.axes.rules").load()
            for name in operators:
                if name in RULES and not is_foreign(name):
                    raise ValueError(f"sparsify has a rule for {name}; an operator of your own needs another name")
        RULES.update(dict.fromkeys(operators, rule))
        return rule

    return register


def is_foreign(name: str) -> bool:
    """Whether the rule of an operator is not one of sparsify's own."""
    return name in RULES and not RULES[name].__module__.startswith("sparsify.")


def key_of(node: fx.Node) -> str:
    """Return the name under which the rule of a node is looked up."""
    schema = getattr(node.target, "_schema", None)
    return str(schema.name) if schema is not None else f"python::{getattr(node.target, '__name__', node.target)}"
