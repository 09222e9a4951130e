"""State dicts: find the one in a checkpoint, and put it into the module that the user's factory makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sparsify.coding.sparse_state import SparseState
from sparsify.errors import InputError
from sparsify.naming import first_names
from sparsify.user_code import load_object, make

__all__ = ["fill", "unwrap"]

_WRAPPERS = ("module.", "_orig_mod.")  # the prefixes that DistributedDataParallel and torch.compile add
_HOW = "Save the module's state_dict() alone, or the module as a .pt2 archive with torch.export.save."


def unwrap(tree: Any, path: Path) -> nn.Module | dict[str, Tensor]:
    """Find the module or the state dict in what a file holds, alone or as one value of a checkpoint.

    Raises:
        InputError: there is none, or there are several.
    """
    if isinstance(tree, nn.Module):
        return tree
    if _is_state(tree):
        return cast(dict[str, Tensor], tree)
    if not isinstance(tree, Mapping):
        raise InputError(f"{path} holds a {type(tree).__name__}, not a module or a state dict. {_HOW}")
    found = {str(key): value for key, value in tree.items() if isinstance(value, nn.Module) or _is_state(value)}
    if len(found) == 1:
        return cast("nn.Module | dict[str, Tensor]", next(iter(found.values())))
    keys = first_names([str(key) for key in tree], 4)
    if not found:
        raise InputError(f"{path} holds a mapping without a module or a state dict; its keys are {keys}. {_HOW}")
    keys = first_names(list(found), 4)
    raise InputError(f"{path} holds several models, under the keys {keys}. Save the one you mean alone.")


def fill(state: Mapping[str, Tensor], factory: str | None, path: Path) -> nn.Module:
    """Make the module that the user's factory names and give it the values of a state dict.

    Args:
        state: names to tensors; a prefix that a wrapper added to all names is removed. What is only made when it is
            asked for is made in the memory of the module.
        factory: `package.module:factory` or `file.py:factory`.
        path: of the state dict, for messages.

    Raises:
        InputError: no factory is given, it makes no module, or names or shapes differ; the message lists them.
        UsageError: the factory cannot be imported or called.
    """
    if factory is None:
        raise InputError(
            f"{path} is a state dict: tensors without the model that uses them. "
            "Pass --model package.module:factory (or file.py:factory), a function that makes the module."
        )
    what = "model factory"
    found = load_object(factory, what)
    model = found if isinstance(found, nn.Module) else make(found, factory, what)
    if not isinstance(model, nn.Module):
        raise InputError(f"The model factory {factory!r} made a {type(model).__name__}, not a torch.nn.Module.")
    expected = model.state_dict()
    given = {
        name: state.read(inside, _own(expected.get(name))) if isinstance(state, SparseState) else state[inside]
        for name, inside in _without_wrappers(state, expected).items()
    }
    try:
        model.load_state_dict(given)
    except RuntimeError as error:
        raise InputError(
            f"{path} does not fit the module that {factory!r} makes: {_differences(given, expected) or error}. "
            "Use the factory that the file was trained with, with the same settings."
        ) from error
    return model


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _own(value: Any) -> Tensor | None:
    """Return a tensor of a module's state dict, which may hold something else as well."""
    return value if isinstance(value, Tensor) else None


def _without_wrappers(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names in a file by those that the module has."""
    names = {name: name for name in state}
    while names and (prefix := next((p for p in _WRAPPERS if all(n.startswith(p) for n in names)), None)):
        if any(name.startswith(prefix) for name in expected):
            break
        names = {name.removeprefix(prefix): inside for name, inside in names.items()}
    return names


def _differences(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} ({_shape(state[name])} in the file, {_shape(tensor)} in the module)"
        for name, tensor in expected.items()
        if name in state and isinstance(tensor, Tensor) and state[name].shape != tensor.shape
    ]
    parts = (("missing in the file", missing), ("unknown to the module", unexpected), ("of another shape", shapes))
    return "; ".join(f"{len(names)} {what}: {first_names(names, 4)}" for what, names in parts if names)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
