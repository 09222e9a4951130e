"""Shapes: the fake value of every node of a graph, derived again after a pass.

Deriving a shape on fake tensors costs torch a tenth of a millisecond or more for each node, and a pass leaves most
calls as they were. A node that is called on the same values as before keeps its value. Any other call is remembered by
its operator and all that its result's type can depend on: constants, and for tensors the type, device, sizes and
strides. Calls whose result depends on values, and calls that write, are always derived.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch._refs
from torch import Tensor, fx
from torch._subclasses import FakeTensor, FakeTensorMode

from sparsify.errors import PassError, first_line
from sparsify.graph_text import where_from
from sparsify.program import Program

__all__ = ["KnownShapes", "derived", "fake", "fake_mode", "kind", "propagate_shapes", "without_guards"]

_BY_VALUE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def propagate_shapes(program: Program, known: KnownShapes | None = None) -> None:
    """Derive the fake value of every node again from those of the inputs.

    Args:
        program: whose graph is checked; its nodes get the new fake values.
        known: calls whose result was derived before, and need not be derived again.

    Raises:
        PassError: the shapes of some node do not fit; the message names the node and the line of the user's model.
    """
    mode = fake_mode(program) or FakeTensorMode()
    known = known if known is not None and known.fake_mode is mode else None
    state: Mapping[str, Tensor] = {**program.parameters, **program.buffers}
    fakes: dict[Hashable, Tensor] = {}
    for node in program.graph.nodes:
        if node.op == "get_attr":
            node.meta["val"] = _kept_fake(node.meta.get("val"), state[str(node.target)], mode, fakes)
    with mode, torch.no_grad(), _without_mkldnn(), without_guards(mode):
        for node in program.graph.nodes:
            if node.op == "call_function":
                try:
                    node.meta["val"] = _derive(node) if known is None else known.value(node)
                except Exception as error:
                    raise PassError(f"The shapes do not fit at {where_from(node)}: {first_line(error)}.") from error


class KnownShapes:
    """Fake results by call; they are only given out to programs of the same lineage (the same fake mode).

    Args:
        program: whose calls are known; its shapes must be right. Made before a pass runs, so that a pass that edits
            the program that it was given cannot change what is known.
    """

    def __init__(self, program: Program) -> None:
        self.fake_mode = fake_mode(program)
        self._nodes = {node.name: (node, node.target, node.args, node.kwargs) for node in program.graph.nodes}
        self._values = {node: node.meta.get("val") for node in program.graph.nodes}
        self._results: dict[Hashable, Any] | None = None
        self._numbers: dict[Hashable, int] = {}
        self._kinds: dict[int, tuple[Any, int]] = {}

    def value(self, node: fx.Node) -> Any:
        """Return the fake result of a node whose arguments have their fake values, deriving it if it is not known."""
        target = node.target
        if not _is_pure(target) or target is torch.ops.aten.where.ScalarOther:  # a mask; that is quick
            return _derive(node)
        name, *before = self._nodes.get(node.name, (None, None))
        if before[0] is target and self._same(node.args, before[1]) and self._same(node.kwargs, before[2]):
            return self._values[name]
        if self._results is None:
            self._results = {
                self._call(target, args, kwargs, self._values.__getitem__): self._values[node]
                for node, target, args, kwargs in self._nodes.values()
                if _is_pure(target)
            }
        called = self._call(target, node.args, node.kwargs, _value)
        if called not in self._results:
            self._results[called] = _derive(node)
        return self._results[called]

    def _same(self, new: Any, old: Any) -> bool:
        """Whether arguments are the same constants and have the very same values."""
        if isinstance(new, fx.Node):
            return isinstance(old, fx.Node) and new.meta.get("val") is self._values[old]
        if type(new) is not type(old):
            return False
        if isinstance(new, (list, tuple)):
            return len(new) == len(old) and all(map(self._same, new, old))
        if isinstance(new, dict):
            return new.keys() == old.keys() and all(self._same(value, old[key]) for key, value in new.items())
        return bool(new == old)

    def _call(self, target: Any, args: Any, kwargs: Mapping[str, Any], value: Callable[[fx.Node], Any]) -> Hashable:
        """Return what the type of a call's result depends on."""

        def described(argument: Any) -> Hashable:
            if isinstance(argument, fx.Node):
                return self._number(value(argument))
            if isinstance(argument, (list, tuple)):
                return tuple(map(described, argument))
            return repr(argument)  # not the value: 1, 1.0 and True are equal, but give different types

        return target, described(args), tuple((name, described(argument)) for name, argument in kwargs.items())

    def _number(self, value: Any) -> int:
        """Number the kinds of values, so that a call is short to compare."""
        if id(value) not in self._kinds:  # the value is kept, so that its id stays its own
            self._kinds[id(value)] = value, self._numbers.setdefault(kind(value), len(self._numbers))
        return self._kinds[id(value)][1]


def kind(value: Any) -> Hashable:
    """Return what of a value the type of an operator's result can depend on."""
    if isinstance(value, Tensor):
        strides = value.stride() if value.layout is torch.strided else ()
        return value.dtype, value.device, value.layout, kind(tuple(value.shape)), kind(tuple(strides))
    if isinstance(value, (list, tuple)):
        return tuple(map(kind, value))
    return value.node.expr if isinstance(value, torch.SymInt) else repr(value)


def fake(value: Tensor, mode: FakeTensorMode) -> Tensor:
    """Return the fake value of a parameter or buffer."""
    if value.layout is not torch.strided:
        return mode.from_tensor(value, static_shapes=True)
    meta = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return FakeTensor(mode, meta, value.device)  # `from_tensor` takes ten times as long


def fake_mode(program: Program) -> Any | None:
    """Return the mode that the fake inputs of a program were made in, or None."""
    values: list[Any] = [node.meta.get("val") for node in program.placeholders]
    return next((value.fake_mode for value in values if hasattr(value, "fake_mode")), None)


def without_guards(mode: Any | None) -> AbstractContextManager[None]:
    """Let kernels ask about symbolic sizes without consequences: `is it 2?` must not fix the batch size at 2."""
    env = getattr(mode, "shape_env", None)
    found: AbstractContextManager[None] = nullcontext() if env is None else env.suppress_guards()
    return found


def _kept_fake(before: Any, value: Tensor, mode: FakeTensorMode, made: dict[Hashable, Tensor]) -> Tensor:
    """Return the fake value that a parameter or buffer had if that still fits, or one for all that are alike."""
    if isinstance(before, FakeTensor) and before.fake_mode is mode and _layout(before) == _layout(value):
        return before
    layout = _layout(value)
    if layout not in made:
        made[layout] = fake(value, mode)
    return made[layout]


def _layout(value: Tensor) -> Hashable:
    strides = value.stride() if value.layout is torch.strided else None
    return value.dtype, value.device, value.layout, value.shape, strides


def _is_pure(target: Any) -> bool:
    """Whether the type of a call's result depends on the types of its arguments alone."""
    return (
        isinstance(target, torch._ops.OpOverload) and not target._schema.is_mutable and not _BY_VALUE & set(target.tags)
    )


def _value(node: fx.Node) -> Any:
    return node.meta["val"]


def derived(node: fx.Node) -> Any:
    """Return the fake result of a call whose arguments have theirs; sizes that are symbols stay so."""
    mode = next(value.fake_mode for value in map(_value, node.all_input_nodes) if isinstance(value, FakeTensor))
    with mode, torch.no_grad(), _without_mkldnn(), without_guards(mode):
        return _derive(node)


def _derive(node: fx.Node) -> Any:
    args: Any
    args, kwargs = fx.map_arg((node.args, node.kwargs), _value)
    target: Any = node.target
    if target is torch.ops.aten.where.ScalarOther and _is_mask_of(*args[:2]):
        return args[1]  # the very same value, so that what reads a weight that is masked now is known
    if target is torch.ops.aten.bilinear.default:  # torch 2.13 cannot derive its shape for a dynamic batch
        return args[0].new_empty([*args[0].shape[:-1], args[2].shape[0]])
    if target is torch.ops.aten.pad.default and (len(args) < 3 or args[2] == "constant"):  # it fixes the batch size
        return torch._refs.constant_pad_nd(args[0], args[1])
    return target(*args, **kwargs)


def _is_mask_of(mask: Tensor, weight: Tensor) -> bool:
    """Whether a masked weight has the type and layout of the weight."""
    if mask.shape != weight.shape or not weight.is_floating_point() or not weight.is_contiguous():
        return False
    strides = [stride for stride, size in zip(mask.stride(), mask.shape, strict=True) if stride and size > 1]
    return strides == sorted(strides, reverse=True)


@contextmanager
def _without_mkldnn() -> Iterator[None]:
    """Its LSTM knows no symbolic sizes."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)
