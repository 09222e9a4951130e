"""torch.nn modules out of a pickle in two steps: read as inert data, checked, and only then made real.

While a pickle is read, every class of `torch.nn` is an `Inert`, which stores its state and has no method that the
pickle could use. `build` then looks at the finished data and makes the modules. So nothing of `torch.nn` runs on
unchecked state, and there is no order of pickle instructions to reason about.

Refused: hooks, state that hides a method or property of its class (such as a `forward` of the instance), functions
other than the activations of a transformer layer, names that could leave the source code that torch.export writes.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar

from sparsify.errors import InputError, UntrustedError
from sparsify.loading.safe_graph import LABEL

if TYPE_CHECKING:
    import torch

__all__ = ["Inert", "InertFunction", "build", "inert_globals"]

_CHILDREN = ("_parameters", "_buffers", "_modules")
_ACTIVATIONS = ("relu", "gelu", "silu", "elu", "selu", "leaky_relu", "mish", "softplus", "tanh", "sigmoid")


class Inert:
    """An instance of a torch.nn class as a pickle describes it: a name and a state, and nothing that can be called."""

    __slots__ = ("state",)
    name: ClassVar[str] = ""
    state: dict[Any, Any] | None

    def __new__(cls, *arguments: object) -> Inert:  # noqa: D102 -- called by NEWOBJ and REDUCE of a pickle
        if arguments:
            raise UntrustedError(f"it calls {cls.name} with arguments of its own, which no saved module does")
        inert = object.__new__(cls)
        inert.state = None
        return inert

    def __setstate__(self, state: object) -> None:
        if self.state is not None or type(state) is not dict:
            raise UntrustedError(f"it sets the state of a {self.name} in a way that no saved module does")
        self.state = state


class InertFunction:
    """A function that a pickle names: it can be stored in a module's state, not called."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_arguments: object) -> None:  # noqa: D102 -- called by REDUCE of a pickle
        raise UntrustedError(f"it calls the function {self.name} while it is read")


@functools.cache
def _classes() -> dict[str, type[torch.nn.Module]]:
    from torch import nn
    from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

    public = [getattr(nn.modules, name) for name in nn.modules.__all__ if not name.startswith("Lazy")]
    found = [c for c in (*public, NonDynamicallyQuantizableLinear) if inspect.isclass(c) and issubclass(c, nn.Module)]
    return {f"{c.__module__}.{c.__qualname__}": c for c in found}


@functools.cache
def _functions() -> dict[str, Any]:
    from torch.nn import functional

    named = {name: getattr(functional, name) for name in _ACTIVATIONS}
    # A built-in such as gelu is pickled by the module it is defined in.
    return {f"{function.__module__}.{function.__qualname__}": function for function in named.values()}


@functools.cache
def inert_globals() -> dict[str, type[Inert] | InertFunction]:
    """Map the global names that a pickle of torch.nn modules may use to what stands for them while it is read."""
    classes = {name: type("Inert", (Inert,), {"__slots__": (), "name": name}) for name in _classes()}
    return {**classes, **{name: InertFunction(name) for name in _functions()}}


def build(tree: Any) -> Any:
    """Make modules out of the inert ones in unpickled data, keeping what is shared between them.

    Args:
        tree: what a restricted unpickler returned: containers, tensors, plain values, inert modules.

    Raises:
        UntrustedError: a module carries code or hides a method; the message is only what was found.
        InputError: a module lacks what every module has; the message is only what was found.
    """
    return _Builder().value(tree, "its content")


class _Builder:
    def __init__(self) -> None:
        self.done: dict[int, Any] = {}
        self.open: set[int] = set()

    def value(self, value: Any, where: str) -> Any:
        """Build one value, once: a pickle may name it many times."""
        import torch

        plain = (bool, int, float, complex, str, bytes, torch.Size, torch.device, torch.dtype, torch.layout)
        if value is None or type(value) in plain:
            return value
        if id(value) in self.open:
            raise UntrustedError(f"{where} contains itself")
        if id(value) not in self.done:
            self.open.add(id(value))
            self.done[id(value)] = self._new(value, where)
            self.open.discard(id(value))
        return self.done[id(value)]

    def _new(self, value: Any, where: str) -> Any:
        import torch

        if isinstance(value, Inert):
            return self._module(value, where)
        if type(value) in (torch.Tensor, torch.nn.Parameter):
            return _checked_tensor(value, where)
        if type(value) in (list, tuple, set):
            return type(value)([self.value(child, where) for child in value])
        if type(value) in (dict, OrderedDict):
            made = type(value)((self.value(k, where), self.value(v, f"{where}, {k!r:.80}")) for k, v in _items(value))
            # A pickle may set attributes of an OrderedDict; only the versions of a state dict are wanted.
            if "_metadata" in getattr(value, "__dict__", {}):
                made._metadata = self.value(value.__dict__["_metadata"], f"{where}, _metadata")
            return made
        if isinstance(value, InertFunction):
            raise UntrustedError(f"{where} is the function {value.name}")
        raise UntrustedError(f"{where} is a {type(value).__module__}.{type(value).__qualname__}")

    def _module(self, inert: Inert, where: str) -> torch.nn.Module:
        cls = _classes()[inert.name]
        where = f"{where} ({cls.__name__})"
        state = inert.state or {}
        if missing := [key for key in (*_CHILDREN, "training") if key not in state]:
            raise InputError(f"{where} is incomplete: it has no {missing[0]}")
        made = {key: self._attribute(cls, key, value, where) for key, value in _items(state)}
        module = cls.__new__(cls)
        module.__setstate__(made)  # type: ignore[no-untyped-call]
        return module

    def _attribute(self, cls: type[torch.nn.Module], key: Any, value: Any, where: str) -> Any:
        where = f"{where}, {key!r:.80}"
        if type(key) is not str or not LABEL.fullmatch(key):
            raise UntrustedError(f"{where} is not a name of an attribute")
        if key in _CHILDREN:
            return self._children(key, value, where)
        if "hook" in key:
            if value is not None and type(value) is not bool and (type(value) not in (dict, OrderedDict) or len(value)):
                raise UntrustedError(f"{where} holds hooks, which run code")
            return self.value(value, where)
        if _hides(cls, key, value):
            raise UntrustedError(f"{where} hides a method or property of {cls.__name__}")
        if key == "activation" and isinstance(value, InertFunction):
            return _functions()[value.name]
        if isinstance(value, Inert):
            raise UntrustedError(f"{where} is a module outside of the list of modules")
        return self.value(value, where)

    def _children(self, key: str, value: Any, where: str) -> Any:
        import torch

        kind = {"_parameters": torch.nn.Parameter, "_buffers": torch.Tensor, "_modules": Inert}[key]
        if type(value) not in (dict, OrderedDict):
            raise UntrustedError(f"{where} is not a mapping")
        for name, child in _items(value):
            if type(name) is not str or "." in name or not LABEL.fullmatch(name):
                raise UntrustedError(f"{where} has the name {name!r:.80}, which is not a plain one")
            if child is not None and not isinstance(child, kind):
                raise UntrustedError(f"{where}, {name!r:.80} is a {type(child).__name__}")
        return type(value)((name, self.value(child, f"{where}, {name!r:.80}")) for name, child in _items(value))


def _items(mapping: Any) -> Any:
    """Return the items by the class's own method: the instance may carry an attribute of that name."""
    return type(mapping).items(mapping)


def _hides(cls: type, key: str, value: Any) -> bool:
    data = (type(None), bool, int, float, str, tuple, list, frozenset)
    static = inspect.getattr_static(cls, key, None)
    # Plain defaults of a class, such as `bias_k = None`, are there to be overridden by plain values.
    return static is not None and (type(static) not in data or type(value) not in data)


def _checked_tensor(tensor: torch.Tensor, where: str) -> torch.Tensor:
    if tensor._backward_hooks:
        raise UntrustedError(f"{where} is a tensor with hooks, which run code")
    for key, value in tensor.__dict__.items():
        plain = value is None or type(value) in (bool, int, float, str) or _marks_nothing(value)
        if not plain or hasattr(type(tensor), key):
            raise UntrustedError(f"{where} is a tensor with the attribute {key!r:.80}")
    return tensor


def _marks_nothing(value: Any) -> bool:
    """Tell whether this is what torch.export.Dim.DYNAMIC leaves on an input: for dimensions by number, empty lists."""
    return type(value) is dict and all(
        type(number) is int and type(marks) is list and not marks for number, marks in value.items()
    )
