"""Shards of a checkpoint: every rank writes what it has, and reads what it needs, whatever the number of ranks.

They are safetensors files of torch's distributed checkpoints: nothing in them can run code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from sparsify.digest import file_digest
from sparsify.parallel.tensors import is_sharded

__all__ = ["Empty", "digests", "merged", "read_shards", "taken_apart", "write_shards"]

Empty: TypeAlias = Callable[[Sequence[int], torch.dtype], Tensor]
"""Makes room for a tensor of a shape and type, whole or sharded."""

_MARK = "sharded tensor"


def taken_apart(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return a state with marks in place of its sharded tensors, and those by the path at which each was."""
    found: dict[str, Tensor] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return {key: walk(item, f"{path}/{key}") for key, item in value.items()}
        if is_sharded(value):
            found[path] = value.detach()
            return {_MARK: path}
        return value

    return walk(state, ""), found


def merged(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return a state with tensors in place of the marks; the opposite of `taken_apart`."""
    if isinstance(state, Mapping):
        if state.keys() == {_MARK}:
            return tensors[state[_MARK]]
        return {key: merged(value, tensors) for key, value in state.items()}
    return state


def write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write sharded tensors into an empty folder; all ranks do it together."""
    with _first_failure():
        save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def read_shards(folder: Path, empty: Empty) -> dict[str, Tensor]:
    """Read all tensors of a folder, on any number of ranks; all do it together."""
    reader = HuggingFaceStorageReader(str(folder))
    known: Mapping[str, Any] = reader.read_metadata().state_dict_metadata
    found = {name: empty(tensor.size, tensor.properties.dtype) for name, tensor in known.items()}
    with warnings.catch_warnings(), _first_failure():
        warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")  # one process reads them, too
        load(found, storage_reader=reader)
    return found


@contextmanager
def _first_failure() -> Iterator[None]:
    """Raise on all ranks what has gone wrong on the first of those on which something has."""
    try:
        yield
    except CheckpointException as error:  # it is no Exception
        raise next(iter(error.failures.values()))[0] from None


def digests(folder: Path, part: slice = slice(None)) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder by its name, or of a part of them."""
    return {path.name: file_digest(path) for path in sorted(folder.iterdir())[part]}
