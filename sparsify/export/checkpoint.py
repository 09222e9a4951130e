"""`.safetensors`: the state dict of a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparsify.atomic import writing
from sparsify.coding.sparse_state import Storage, sparse_state
from sparsify.errors import ExportError
from sparsify.program import Program
from sparsify.version import __version__

__all__ = ["save_state"]


def save_state(program: Program, path: str | Path, storage: Storage = "dense") -> dict[str, Any]:
    """Write the parameters and persistent buffers by their original names; a tied parameter is written once.

    Dense, masked weights are written as zeros, frozen ones with the values that they stay at, and the mask beside them
    as bits; a model's own `load_state_dict` takes the file with `strict=False`. Packed, only what the masks keep is
    written: what is pruned or comes from a seed costs a bit for each weight. `sparsify.load` reads both, and gets the
    masks and what is frozen back.

    Args:
        program: what to write.
        path: where.
        storage: of masked and frozen weights, dense or packed.

    Returns:
        What was checked: `bytes`, and `storage` where something is masked or frozen.

    Raises:
        ExportError: what is read back differs.
        InputError: the path cannot be written.
    """
    found, told = sparse_state(program, storage)
    tensors = {name: value.contiguous().clone() for name, value in found.items()}
    # one entry: safetensors writes several in any order, and the same program should give the same bytes
    metadata = {"sparsify": json.dumps({"version": __version__, **told, **program.provenance})}
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        for name, value in load_file(temporary).items():
            if not torch.equal(_bits(value), _bits(tensors[name].cpu())):
                raise ExportError(f"{path}: {name} reads back different from what was written.")
        sparse = {"storage": storage} if program.masks or program.frozen else {}
        return {"bytes": temporary.stat().st_size, **sparse}


def _bits(value: Tensor) -> Tensor:
    return value.reshape(-1).view(torch.uint8)
