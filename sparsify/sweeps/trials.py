"""Trials: what a sweep consists of, each with a key that says all that decides its result."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sparsify.batches import given_batches
from sparsify.digest import file_digest
from sparsify.registry import entries
from sparsify.spec import canonical, parse_spec
from sparsify.task import Task
from sparsify.version import __version__

__all__ = ["Cell", "Sweep", "Together", "Trial", "common_digest", "path_digest", "trial_key"]

Together = Literal["auto", "yes", "no"]
_KEY = 16  # letters


@dataclass(frozen=True)
class Cell:
    """What the seeds of a row of the result have in common.

    Attributes:
        model: the file.
        method: its name in the recipe.
        sparsity: that stands for `$sparsity`; None where the method does not say that.
        passes: canonical specs.
        retrain: canonical spec of the retraining, or None.
    """

    model: str
    method: str
    sparsity: float | None
    passes: tuple[str, ...]
    retrain: str | None


@dataclass(frozen=True)
class Trial:
    """A cell with a seed.

    Attributes:
        cell: what is done to which model.
        seed: of everything random.
        key: the same for all trials whose result must be the same, whatever they are called.
        command: that does the same alone.
    """

    cell: Cell
    seed: int
    key: str
    command: str


@dataclass(frozen=True)
class Sweep:
    """All that a worker must know.

    Attributes:
        folder: where the sweep is kept.
        trials: in the order of the recipe.
        task: data, loss and score.
        inputs: example inputs, or None.
        factory: makes the module for a state dict, or None.
        device: where models run.
        trust: files may run code.
        threads: of each worker.
        together: whether seeds are trained at once: where that is faster, wherever it is possible, or never.
        most: how many seeds may be trained at once.
    """

    folder: Path
    trials: tuple[Trial, ...]
    task: str
    inputs: str | None = None
    factory: str | None = None
    device: str = "cpu"
    trust: bool = False
    threads: int = 1
    together: Together = "auto"
    most: int = 1


def trial_key(cell: Cell, seed: int, model: str, common: str) -> str:
    """Return the key of a trial: a digest of all that decides its result.

    Args:
        cell: whose specs count, with the files that they name; names and the order of a recipe do not.
        seed: of everything random.
        model: the digest of its file.
        common: what all trials of the sweep share.
    """
    specs = [*cell.passes, *([] if cell.retrain is None else [f"retrain {cell.retrain}"])]
    named = [path_digest(Path(value)) for spec in specs for value in parse_spec(spec)[1].values() if _is_file(value)]
    return _digest([specs, named, seed, model, common])


def common_digest(
    task: Task, task_spec: str, inputs: str | None, factory: str | None, *, device: str = "cpu", threads: int = 1
) -> str:
    """Return a digest of what all trials share: the data, the code that the user names, and what computes.

    Of the data it has the first batch of each split, of the code the file that is named; what that imports is not seen.
    What computes is sparsify, torch, the kind of device and the threads: each may change the last bits.
    """
    data = [_data(next(given_batches(task, split), None)) for split in ("train", "validation")]
    computes = [__version__, torch.__version__.partition("+")[0], device.partition(":")[0], threads]
    return _digest([computes, _task_name(task, task_spec), data, *(_told(text) for text in (inputs, factory))])


def path_digest(path: Path) -> str:
    """Return a digest of a file, or of all files in a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return _digest([[file.relative_to(path).as_posix(), file_digest(file)] for file in files])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:_KEY]


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # no name of a file
        return False


def _task_name(task: Task, spec: str) -> list[str]:
    name = spec.partition(":")[0]
    return [canonical(name, task)] if name in entries("sparsify.tasks") else _told(spec)


def _told(text: str | None) -> list[str]:
    """Return a text, with the content of the file, or of the module of Python, that it begins with."""
    if text is None:
        return []
    name = text if _is_file(text) else text.rpartition(":")[0]
    if _is_file(name):
        return [text, path_digest(Path(name))]
    return [text, *(path_digest(path) for path in _source(name))]


def _source(module: str) -> Iterator[Path]:
    try:
        found = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):  # a spec of shapes, such as 1x3x224x224
        return
    if found is not None and found.origin is not None and Path(found.origin).is_file():
        yield Path(found.origin)


def _data(batch: Any) -> list[str]:
    leaves: Sequence[Any] = pytree.tree_leaves(batch)
    return [
        hashlib.sha256(leaf.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        if isinstance(leaf, Tensor) else repr(leaf)
        for leaf in leaves
    ]  # fmt: skip
