"""`.pt`: a plain state dict, which the model's own `load_state_dict` takes as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsify.atomic import writing
from sparsify.coding.bits import equal_bits
from sparsify.coding.sparse_state import state
from sparsify.coding.tensor_file import Part
from sparsify.errors import ExportError
from sparsify.program import Program

__all__ = ["plain_parts", "plain_state", "save_plain"]


def plain_parts(program: Program) -> dict[str, Part]:
    """Return parameters and persistent buffers by all their names, each made when it is asked for.

    Masked weights are zeros, frozen and embedded ones as they are computed.
    """
    found = state(program)
    return {**found, **{alias: found[name] for alias, name in program.aliases.items() if name in found}}


def plain_state(program: Program) -> dict[str, Tensor]:
    """Return the values of `plain_parts`, as the model's `state_dict()` has them; tied names have one tensor."""
    parts = plain_parts(program)
    made = {id(part): part.make().detach() for part in parts.values()}
    return {name: made[id(part)] for name, part in parts.items()}


def save_plain(program: Program, path: str | Path) -> dict[str, Any]:
    """Write the state dict with torch.save; `model.load_state_dict(torch.load(path, weights_only=True))` reads it.

    It holds no masks: zeros are all that is left of them. A model of smaller sizes gets these first, from its own code
    or with `sparsify.write_back`.

    Returns:
        What was checked: `bytes`.

    Raises:
        ExportError: what is read back differs.
        InputError: the path cannot be written.
    """
    known = plain_state(program)
    own = {id(value): value.cpu().contiguous().clone() for value in known.values()}  # not all of a larger storage
    held = {name: own[id(value)] for name, value in known.items()}
    with writing(path) as temporary:
        torch.save(held, temporary)
        again = torch.load(temporary, weights_only=True, mmap=True)
        for name, value in held.items():
            if not equal_bits(again[name], value):
                raise ExportError(f"{path}: {name} reads back different from what was written.")
        return {"bytes": temporary.stat().st_size}
