"""Where a loaded model runs, and on what: devices, and example inputs that fit an exported program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass
from torch.utils import _pytree as pytree

from sparsify.errors import InputError, UsageError

__all__ = ["find_device", "move_inputs", "move_model", "with_inputs"]

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def find_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        UsageError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UsageError(
            f"The device {name!r} cannot be used: {reason}. Name one that is here, such as cpu."
        ) from error
    return device


def move_inputs(inputs: Inputs | None, device: torch.device) -> Inputs | None:
    """Return example inputs whose tensors are on the device."""
    if inputs is None:
        return None
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), inputs)  # type: ignore[no-any-return]


def move_model(model: nn.Module | ExportedProgram, device: torch.device) -> nn.Module | ExportedProgram:
    """Move a module in place, or return an exported program that runs on the device."""
    if isinstance(model, nn.Module):
        return model.to(device)
    tensors = [value for value in (*model.state_dict.values(), *model.constants.values()) if isinstance(value, Tensor)]
    if all(tensor.device.type == device.type for tensor in tensors):
        return model
    first: dict[int, str] = {}
    twins = {name: first.setdefault(tensor.data_ptr(), name) for name, tensor in model.state_dict.items()}
    moved = move_to_device_pass(model, device)
    for name, twin in twins.items():  # the pass copies name by name, which would untie tied weights
        if moved.state_dict[name].shape == moved.state_dict[twin].shape:
            moved.state_dict[name] = moved.state_dict[twin]
    return moved


def with_inputs(exported: ExportedProgram, inputs: Inputs, path: Path) -> ExportedProgram:
    """Give an exported program other example inputs, which it must accept.

    Named inputs and inputs given by position are both brought into the order that the program wants.

    Raises:
        InputError: number, names, types or shapes of the inputs are not those that the program was exported for.
    """
    wanted = _placeholders(exported)
    args, kwargs = _arranged(inputs, [node.name for node in wanted], exported)
    try:
        exported.example_inputs = (tuple(args), dict(kwargs))
    except ValueError as error:
        names = ", ".join(f"{node.name} ({_wanted_shape(node)})" for node in wanted)
        raise InputError(
            f"{path} was exported for the inputs {names}, given as {_convention(exported)}; the inputs given here are "
            f"{len(args)} positional and {', '.join(kwargs) or 'no'} keyword ones. Give them in the same way."
        ) from error
    ordered = {name: kwargs[name] for name in _keywords(exported)}
    problem = _misfit(wanted, pytree.tree_leaves((tuple(args), ordered)))
    if problem:
        raise InputError(
            f"{path} was exported for other inputs: {problem}. Export it again for these, or leave them out."
        )
    return exported


def _arranged(inputs: Inputs, names: Sequence[str], exported: ExportedProgram) -> Inputs:
    """Put inputs that are named, or given by position, into the places that the program was exported with.

    Named inputs go to the input of that name, the others in order to those that are left. What cannot be placed so is
    returned as it is.
    """
    args, kwargs = inputs
    spec = exported.call_spec.in_spec
    positional = iter(pytree.tree_leaves(args))
    if spec is None or not set(kwargs) <= set(names) or len(pytree.tree_leaves(args)) + len(kwargs) != len(names):
        return inputs
    placed = pytree.tree_unflatten([kwargs[name] if name in kwargs else next(positional) for name in names], spec)
    return tuple(placed[0]), dict(placed[1])


def _placeholders(exported: ExportedProgram) -> list[fx.Node]:
    inputs = set(exported.graph_signature.user_inputs)
    named = [node for node in exported.graph.nodes if node.op == "placeholder"]
    specs = exported.graph_signature.input_specs
    return [node for node, spec in zip(named, specs, strict=True) if spec.target is None or node.name in inputs]


def _keywords(exported: ExportedProgram) -> Sequence[str]:
    spec = exported.call_spec.in_spec
    return [] if spec is None else list(spec.child(1).context or [])


def _convention(exported: ExportedProgram) -> str:
    spec = exported.call_spec.in_spec
    positional = 0 if spec is None else spec.child(0).num_children
    return f"{positional} positional and {', '.join(_keywords(exported)) or 'no'} keyword inputs"


def _misfit(wanted: Sequence[fx.Node], leaves: Sequence[Any]) -> str | None:
    sizes: dict[str, int] = {}
    for node, leaf in zip(wanted, leaves, strict=True):
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            continue
        if not isinstance(leaf, Tensor) or leaf.dtype != value.dtype:
            kind = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
            return f"{node.name} is {kind}, not {value.dtype}"
        fits = len(leaf.shape) == len(value.shape) and all(
            _fits(size, want, sizes) for size, want in zip(leaf.shape, value.shape, strict=True)
        )
        if not fits:
            return f"{node.name} is {'x'.join(map(str, leaf.shape)) or 'a scalar'}, not {_wanted_shape(node)}"
    return None


def _fits(size: int, wanted: Any, sizes: dict[str, int]) -> bool:
    if not isinstance(wanted, torch.SymInt):
        return bool(size == wanted)
    # Equal symbols stand for equal sizes; a size computed from symbols is left to the graph itself.
    return not str(wanted).isidentifier() or sizes.setdefault(str(wanted), size) == size


def _wanted_shape(node: fx.Node) -> str:
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return type(value).__name__
    return "x".join(str(size) if isinstance(size, int) else "?" for size in value.shape) or "a scalar"
