"""Digests: what a program and its data are, in sixteen letters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sparsify.observation.calibration import Calibration
from sparsify.program import Program

__all__ = ["digest", "digest_with_data", "file_digest"]

_BLOCK = 1 << 20  # bytes


def digest(program: Program, *more: str, data: Iterable[Any] = ()) -> str:
    """Return a digest of a program's graph and state, of some texts, and of the tensors among some data."""
    found = hashlib.sha256(str(program).encode())
    tensors: Mapping[str, Tensor] = {
        **{f"input {place}": leaf for place, leaf in enumerate(data) if isinstance(leaf, Tensor)},
        **program.parameters,
        **program.buffers,
    }
    for name, value in tensors.items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for text in more:
        found.update(text.encode())
    return found.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def digest_with_data(program: Program, calibration: Calibration) -> str:
    """Return a digest of a program and its data: of a task the name and the first batch, else the example."""
    task = calibration.task
    if task is None:
        return digest(program, data=program.example.leaves())
    return digest(program, task.name, data=pytree.tree_leaves(next(calibration.draw(program), None)))
