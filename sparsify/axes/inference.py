"""Axis inference: the axes of every value of a program, by one pass over its graph."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from sparsify.axes import rules
from sparsify.axes.axis import Axis, freeze_all, leaves
from sparsify.axes.op import RULES, Facts, Op, fresh, key_of
from sparsify.embedding import making
from sparsify.errors import PassError, first_line
from sparsify.graph_text import where_from
from sparsify.program import Program
from sparsify.shapes import fake_mode, without_guards

__all__ = ["Axes", "axes", "leaves_of", "without_collector"]

_COMPUTED = "the graph computes the weight, which is frozen or embedded; `--pass fold` writes it out"


@dataclass(frozen=True)
class Axes:
    """The axes of every value of a program.

    Attributes:
        program: whose values they are.
        dims: for every node with a tensor the axes of its dimensions; a tuple of them for several tensors.
        facts: what the rules say about zeros and sizes, by node.
        contents: for nodes whose integers are indices of an axis, that axis; by position for several results.
        unknown: operators without a rule, with the names of their nodes; what they touch is frozen.
    """

    program: Program
    dims: Mapping[fx.Node, Any]
    facts: Mapping[fx.Node, Facts]
    contents: Mapping[fx.Node, Any]
    unknown: Mapping[str, list[str]]


def axes(program: Program) -> Axes:
    """Infer the axes of every value of a program.

    Every dimension of a parameter or buffer starts as an axis of its own; the operators' rules say which are the same
    and which are made of which. An operator without a rule freezes what it touches. What weights are made of
    (`sparsify.embedding`) is frozen, too: values of a seed or a basis that layers share belong to the sizes that there
    are. Takes time linear in the number of nodes.

    Raises:
        PassError: a rule fails, or returns no axis for each dimension; the message names operator and node.
    """
    rules.load()
    found = _Inference()
    state = {**program.parameters, **program.buffers}
    made = making(program.graph)
    with without_guards(fake_mode(program)), without_collector():
        for node in program.graph.nodes:
            if node.op == "get_attr":
                kept = _COMPUTED if node in made else ""
                found.dims[node] = [fresh(size, kept) for size in state[str(node.target)].shape]
            elif node in made:
                found.dims[node], found.facts[node] = _fixed(node.meta.get("val"), _COMPUTED), Facts()
            elif node.op == "placeholder":
                found.dims[node] = _fixed(node.meta.get("val"), "an input has it")
            elif node.op == "output":
                found.freeze(pytree.arg_tree_leaves(*node.args), "an output has it")
            else:
                found.apply(node)
    return Axes(program, found.dims, found.facts, found.contents, found.unknown)


def leaves_of(dims: Any) -> list[Axis]:
    """Return the leaves of all dimensions of a value, or of several values; one that occurs twice is given twice."""
    flat = [axis for item in dims for axis in item] if isinstance(dims, tuple) else dims
    return [leaf for axis in flat for leaf in leaves(axis)]


@contextmanager
def without_collector() -> Iterator[None]:
    """Pause Python's garbage collector: it would walk through the growing graph again and again, and finds nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass
class _Inference:
    dims: dict[fx.Node, Any] = field(default_factory=dict)
    facts: dict[fx.Node, Facts] = field(default_factory=dict)
    contents: dict[fx.Node, Any] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)

    def apply(self, node: fx.Node) -> None:
        """Apply the rule of a node, or freeze what it touches."""
        name = key_of(node)
        rule = RULES.get(name)
        if rule is None and _is_pointwise(node):
            rule = RULES[rules.POINTWISE]
        if rule is None:
            self._freeze_around(node, name)
            return
        op = Op(node, self.dims, self.contents)
        try:
            self.dims[node] = rule(op)
        except Exception as error:
            raise PassError(
                f"The axis rule of {name} failed at {where_from(node)}: {type(error).__name__}: {first_line(error)}."
            ) from error
        if not _fits(self.dims[node], node.meta.get("val")):
            raise PassError(
                f"The axis rule of {name} returns no axis for each dimension of the result of {where_from(node)}."
            )
        self.facts[node] = op.facts
        if op.facts.content is not None:
            self.contents[node] = op.facts.content
        if self.contents:
            for value in node.all_input_nodes:
                if value not in op.facts.read:
                    freeze_all(self._content_axes(value), f"{name} uses its indices")

    def freeze(self, values: Iterable[Any], reason: str) -> None:
        """Freeze the axes of values, and those that they hold indices of."""
        for value in values:
            if isinstance(value, fx.Node):
                dims = self.dims.get(value, [])
                for item in dims if isinstance(dims, tuple) else (dims,):
                    freeze_all(item, reason)
                freeze_all(self._content_axes(value), reason)

    def _content_axes(self, value: fx.Node) -> list[Axis]:
        content = self.contents.get(value)
        return list(content.values()) if isinstance(content, dict) else [content] if content else []

    def _freeze_around(self, node: fx.Node, name: str) -> None:
        writes = isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        reason = f"{name} writes in place" if writes else f"{name} has no axis rule"
        self.freeze(node.all_input_nodes, reason)
        self.dims[node] = _fixed(node.meta.get("val"), reason)
        self.facts[node] = Facts()
        if not writes and isinstance(node.target, torch._ops.OpOverload):
            self.unknown.setdefault(name, []).append(node.name)


def _is_pointwise(node: fx.Node) -> bool:
    target = node.target
    return (
        isinstance(target, torch._ops.OpOverload)
        and torch.Tag.pointwise in target.tags
        and not target._schema.is_mutable
    )


def _fits(dims: Any, value: Any) -> bool:
    if isinstance(value, Tensor):
        return isinstance(dims, list) and len(dims) == value.ndim
    return not isinstance(value, (list, tuple)) or (isinstance(dims, tuple) and len(dims) == len(value))


def _fixed(value: Any, reason: str) -> Any:
    if isinstance(value, Tensor):
        return [fresh(size, reason) for size in value.shape]
    if isinstance(value, (list, tuple)):
        return tuple(_fixed(item, reason) for item in value)
    return []
