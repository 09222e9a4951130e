"""Remembered shapes: what an operator gave for arguments of which types, so that it need not be derived again.

Deriving shapes on fake tensors costs torch a millisecond for each node, and a pass leaves most calls as they were. A
call is remembered by its operator and all that its result's type can depend on: constants, and for tensors the type,
device, sizes and strides. Calls whose result depends on values, and calls that write, are never remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx

from sparsify.program import Program

__all__ = ["KnownShapes", "call", "fake_mode", "kind", "without_guards"]

_BY_VALUE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class KnownShapes:
    """Fake results by call; they are only given out to programs of the same lineage (the same fake mode).

    Args:
        program: whose calls are known; its shapes must be right. Made before a pass runs, so that a pass that edits
            the program that it was given cannot change what is known.
    """

    def __init__(self, program: Program) -> None:
        self._results: dict[Hashable, Any] = {}
        self.fake_mode = fake_mode(program)
        kinds: dict[fx.Node, Hashable] = {}

        def kind_of(node: fx.Node) -> Hashable:
            if node not in kinds:
                kinds[node] = kind(node.meta.get("val"))
            return kinds[node]

        for node in program.graph.nodes:
            if (called := call(node, kind_of)) is not None and "val" in node.meta:
                self._results[called] = node.meta["val"]

    def get(self, called: Hashable | None) -> Any | None:
        """Return the fake result of a call, or None when it is not known."""
        return None if called is None else self._results.get(called)


def fake_mode(program: Program) -> Any | None:
    """Return the mode that the fake inputs of a program were made in, or None."""
    values: list[Any] = [node.meta.get("val") for node in program.placeholders]
    return next((value.fake_mode for value in values if hasattr(value, "fake_mode")), None)


def without_guards(mode: Any | None) -> AbstractContextManager[None]:
    """Let kernels ask about symbolic sizes without consequences: `is it 2?` must not fix the batch size at 2."""
    env = getattr(mode, "shape_env", None)
    found: AbstractContextManager[None] = nullcontext() if env is None else env.suppress_guards()
    return found


def call(node: fx.Node, kind_of: Callable[[fx.Node], Hashable]) -> Hashable | None:
    """Return what the type of a node's result depends on, or None when that cannot be said."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable or _BY_VALUE & set(target.tags):
        return None

    def described(argument: Any) -> Hashable:
        if isinstance(argument, fx.Node):
            return kind_of(argument)
        if isinstance(argument, (list, tuple)):
            return tuple(map(described, argument))
        return repr(argument)  # not the value: 1, 1.0 and True are equal, but give different types

    return target, described(node.args), tuple((name, described(value)) for name, value in node.kwargs.items())


def kind(value: Any) -> Hashable:
    """Return what of a value the type of an operator's result can depend on."""
    if isinstance(value, Tensor):
        strides = value.stride() if value.layout is torch.strided else ()
        return value.dtype, value.device, value.layout, kind(tuple(value.shape)), kind(tuple(strides))
    if isinstance(value, (list, tuple)):
        return tuple(map(kind, value))
    return value.node.expr if isinstance(value, torch.SymInt) else repr(value)
