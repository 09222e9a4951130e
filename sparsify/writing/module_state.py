"""The tensors of a program and those of the module that it was captured from, and changes that can be taken back."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparsify.errors import InputError, PassError
from sparsify.graph import mask_nodes
from sparsify.naming import first_names
from sparsify.program import Program

__all__ = ["UNTOUCHED", "Edits", "Place", "matched"]

UNTOUCHED = "The model is as it was; program.module() is a module that computes the program."

Place = tuple[MutableMapping[str, Any], str]
"""A dictionary of a module, such as its parameters or its attributes, and a key."""


class Edits:
    """Changes to a model, and the way back.

    Everything that its modules hold by name is remembered at the start: a model that is run may replace it too.

    Args:
        model: as it is.
    """

    def __init__(self, model: nn.Module) -> None:
        self._before: dict[int, tuple[MutableMapping[str, Any], dict[str, Any]]] = {}
        for module in model.modules():
            for holder in (vars(module), module._parameters, module._buffers):
                self._remember(holder)

    def _remember(self, holder: MutableMapping[str, Any]) -> None:
        self._before.setdefault(id(holder), (holder, dict(holder)))

    def put(self, holder: MutableMapping[str, Any], key: str, value: Any) -> None:
        """Set an entry of a dictionary of a module, or of anything else that a module uses."""
        self._remember(holder)
        holder[key] = value

    def undo(self) -> None:
        """Give the model everything back that it had."""
        for holder, entries in self._before.values():
            same = holder.keys() == entries.keys() and all(holder[key] is value for key, value in entries.items())
            if not same:
                holder.clear()
                holder.update(entries)


def matched(program: Program, original: Program, model: nn.Module) -> list[tuple[Place, Tensor]]:
    """Return what to write where; a tensor that the program shares with the model is not written.

    Args:
        program: smaller.
        original: of the model as it is.
        model: whose parameters, buffers and tensors in attributes are looked for by name.

    Raises:
        InputError: names or shapes are not those of the model.
        PassError: a pass took parameters out, or added some that the model has no place for.
    """
    places, masks = _places(program, model), _masks(program, original)
    held = {**program.parameters, **program.buffers}
    folded = {mask for mask, _ in masks.values()}
    found: list[tuple[Place, Tensor]] = []
    for name, value in held.items():
        if name in folded:
            continue
        if name not in places:
            _check_constant(name, value, original, model)
            continue
        holder, key = places[name][0]
        old = holder[key]
        _check_shape(name, value, old, model)
        new = _folded(value, masks[name], held) if name in masks else value
        if old is None or not _is_same(old, new):
            new = _fresh(old, new)
            found.extend((place, new) for place in places[name])
    known = held.keys() | program.aliases.keys()
    if gone := [name for name in (*original.parameters, *original.buffers) if name not in known]:
        raise PassError(
            f"The program has no {first_names(gone, 1)}: a pass took out what used it, such as a layer. write_back "
            f"changes the sizes in a model, not its code. {UNTOUCHED}"
        )
    return found


def _folded(value: Tensor, mask: tuple[str, Any], held: Mapping[str, Tensor]) -> Tensor:
    """Return a weight with what its mask puts in place of some values."""
    name, base = mask
    folded = torch.where(held[name].to(value.device), value.detach(), held.get(base, base))
    return folded.to(value.dtype).requires_grad_(value.requires_grad)


def _places(program: Program, model: nn.Module) -> dict[str, list[Place]]:
    """Return for every name of a tensor all places where the model holds that tensor."""
    found: dict[str, Place] = {}
    tied: dict[int, dict[tuple[int, str], Place]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        attributes = [key for key, value in vars(module).items() if isinstance(value, Tensor)]
        for holder, keys in ((vars(module), attributes), (module._buffers, None), (module._parameters, None)):
            for key in holder if keys is None else keys:
                found[f"{path}.{key}" if path else key] = (holder, key)
                if holder[key] is not None:
                    tied.setdefault(id(holder[key]), {})[id(holder), key] = (holder, key)
    names = {name: [name] for name in found}
    for alias, kept in program.aliases.items():
        if alias in found and kept in found:
            names[kept].append(alias)
    places = {}
    for name, place in found.items():
        values = [found[alias][0][found[alias][1]] for alias in names[name]]
        together = {at: where for value in values for at, where in tied.get(id(value), {}).items()}
        places[name] = list(together.values()) or [place]
    return places


def _masks(program: Program, original: Program) -> dict[str, tuple[str, Any]]:
    """Return for every weight that passes have masked the buffer with its mask, and what stands where it is False."""
    found = {}
    for node in mask_nodes(program.graph):
        mask, weight = (str(value.target) for value in node.args[:2] if isinstance(value, fx.Node))
        if mask not in original.buffers and mask in program.buffers and weight in program.parameters:
            base: Any = node.args[2]
            found[weight] = (mask, base.target if isinstance(base, fx.Node) else base)
    return found


def _check_constant(name: str, value: Tensor, original: Program, model: nn.Module) -> None:
    """Refuse a tensor that the model has no place for, unless it is a constant of its code that has not changed."""
    if name in original.buffers:
        if torch.equal(original.buffers[name], value.to(original.buffers[name].device)):
            return
        raise PassError(
            f"{type(model).__name__} makes the tensor {name} {list(original.buffers[name].shape)} in its code, and the "
            f"program has another one {list(value.shape)}. Keep it in a buffer: register_buffer. {UNTOUCHED}"
        )
    owner = name.rpartition(".")[0]
    if name.endswith("bias") and owner in dict(model.named_modules()):
        raise PassError(f"A pass gave {owner or 'the model'} a bias, {name}, for which it has no place. {UNTOUCHED}")
    raise InputError(
        f"The program has {name}, which this {type(model).__name__} does not have: it was captured from another model, "
        f"or from a part or a wrapper of this one. Give write_back what capture was given. {UNTOUCHED}"
    )


def _check_shape(name: str, value: Tensor, old: Tensor | None, model: nn.Module) -> None:
    if old is not None and (old.ndim != value.ndim or any(n > o for n, o in zip(value.shape, old.shape, strict=True))):
        raise InputError(
            f"{name} is {list(value.shape)} in the program, but {list(old.shape)} in the model: the program was not "
            f"captured from this {type(model).__name__}. {UNTOUCHED}"
        )


def _is_same(old: Tensor, value: Tensor) -> bool:
    """Whether two tensors are one in memory."""
    if old is value:
        return True
    alike = old.shape == value.shape and old.stride() == value.stride() and old.dtype == value.dtype
    return alike and old.data_ptr() == value.data_ptr() and old.device == value.device


def _fresh(old: Tensor | None, value: Tensor) -> Tensor:
    """Return a tensor of the model's own, on the device and with the properties of the one that it replaces."""
    new = value.detach().clone()
    if old is None:
        return nn.Parameter(new, requires_grad=value.requires_grad)
    new = new.to(old.device)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    vars(new).update(vars(old))
    return new
