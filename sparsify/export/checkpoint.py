"""`.safetensors`: the state dict of a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparsify.atomic import writing
from sparsify.coding.bits import BITMASK, packed
from sparsify.embedding import folded
from sparsify.errors import ExportError
from sparsify.masking import baked
from sparsify.program import Program
from sparsify.version import __version__

__all__ = ["save_state"]


def save_state(program: Program, path: str | Path) -> dict[str, Any]:
    """Write the parameters and persistent buffers by their original names; a tied parameter is written once.

    Masked weights are written as zeros, and their mask beside them as bits, `<name>.bitmask`, so that `sparsify.load`
    gets them back; a model's own `load_state_dict` takes the file with `strict=False`. Embedded parameters are written
    out.

    Returns:
        What was checked: `bytes`.

    Raises:
        ExportError: what is read back differs.
        InputError: the path cannot be written.
    """
    program = folded(program)
    plain = baked(program)
    tensors = {
        name: value.detach().contiguous().clone()
        for name, value in {**plain.parameters, **plain.buffers}.items()
        if name not in plain.transient
    }
    tensors.update({f"{name}{BITMASK}": packed(mask) for name, mask in program.masks.items()})
    # one entry: safetensors writes several in any order, and the same program should give the same bytes
    metadata = {"sparsify": json.dumps({"version": __version__, **program.provenance})}
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        for name, value in load_file(temporary).items():
            if not torch.equal(_bits(value), _bits(tensors[name].cpu())):
                raise ExportError(f"{path}: {name} reads back different from what was written.")
        return {"bytes": temporary.stat().st_size}


def _bits(value: Tensor) -> Tensor:
    return value.reshape(-1).view(torch.uint8)
