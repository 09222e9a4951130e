"""Sweep files: methods, sparsities, seeds and models in YAML.

models: [a.pt2, b.pt2]

Methods:
  magnitude:
    passes: weight-prune:sparsity=$sparsity
    retrain: fine-tune:steps=5ep
  wanda:
    passes: weight-prune:sparsity=$sparsity,criterion=wanda
sparsity: [0.5, 0.8]
seeds: 3
task: digits
"""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparsify.errors import InputError, UsageError
from sparsify.inputs import parse
from sparsify.pass_manager import PassManager
from sparsify.recipe import Recipe, keyed, passes_of, place, read_nodes, retrain_of
from sparsify.retrain import parse_method
from sparsify.sweeps.trials import Cell, Trial, common_digest, path_digest, trial_key
from sparsify.task import Task, resolve

__all__ = ["Plan", "read_plan"]

_KEYS = ("models", "methods", "sparsity", "seeds", "task", "inputs", "factory")
_METHOD = ("passes", "retrain")
_SEEDS = 3
_NAME = "$sparsity"


@dataclass(frozen=True)
class Plan:
    """What a sweep file says.

    Attributes:
        cells: in the order of the file: by model, method and sparsity.
        seeds: of each of them.
        task: data, loss and score, as the file has it.
        known: the task itself.
        inputs: example inputs, or None.
        factory: makes the module for a state dict, or None.
        text: the file.
    """

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    task: str
    known: Task
    inputs: str | None
    factory: str | None
    text: str

    def trials(self, *options: str, device: str = "cpu", threads: int = 1) -> tuple[Trial, ...]:
        """Return a trial for each cell and seed; models, data and code are read for their keys.

        Args:
            options: of commands that do the same, such as `--trust`.
            device: where models run.
            threads: of each worker.

        Raises:
            UsageError: the task's own code failed.
        """
        models = {cell.model: path_digest(Path(cell.model)) for cell in self.cells}
        common = common_digest(self.known, self.task, self.inputs, self.factory, device=device, threads=threads)
        more = [*(("--model", self.factory) if self.factory else ()), *options]
        return tuple(
            Trial(cell, seed, trial_key(cell, seed, models[cell.model], common), self._command(cell, seed, more))
            for cell in self.cells
            for seed in self.seeds
        )

    def _command(self, cell: Cell, seed: int, more: list[str]) -> str:
        recipe = Recipe(cell.passes, cell.retrain, self.task, self.inputs, seed)
        return shlex.join(["sparsify", cell.model, *recipe.options(), *more])


def read_plan(path: Path) -> Plan:
    """Read a sweep file; everything in it is checked.

    Raises:
        InputError: the file or a model is missing, or the file is not YAML.
        UsageError: something is wrong in it; the message names the line.
    """
    nodes = read_nodes(path, _KEYS, "sweep")
    for name in ("models", "methods", "task"):
        if name not in nodes or not nodes[name].value:
            raise UsageError(f"The sweep {path} has no {name}: it needs models, methods and a task, which scores them.")
    task, inputs, factory = (_text(path, nodes, name) for name in ("task", "inputs", "factory"))
    if inputs is not None:
        with _at(path, nodes["inputs"]):
            parse(inputs)
    levels = _levels(path, nodes.get("sparsity"))
    methods = [cell for name, node in _methods(path, nodes["methods"]) for cell in _cells(path, name, node, levels)]
    if levels and all(cell.sparsity is None for cell in methods):
        raise UsageError(f"{place(path, nodes['sparsity'])}: no method says {_NAME}, which these would stand for.")
    with _at(path, nodes["task"]):
        known = resolve(str(task))
    cells = [replace(cell, model=model) for model in _models(path, nodes["models"]) for cell in methods]
    seeds = _seeds(path, nodes.get("seeds"))
    return Plan(tuple(cells), seeds, str(task), known, inputs, factory, path.read_text(encoding="utf-8"))


@contextmanager
def _at(path: Path, node: Any) -> Iterator[None]:
    """Name the line of a node in errors."""
    try:
        yield
    except (InputError, UsageError) as error:
        raise type(error)(f"{place(path, node)}: {error}") from error


def _items(node: Any) -> list[Any]:
    return list(node.value) if node.id == "sequence" else [node]


def _text(path: Path, nodes: dict[str, Any], name: str) -> str | None:
    node = nodes.get(name)
    if node is None or node.value == "":
        return None
    if node.id != "scalar":
        raise UsageError(f"{place(path, node)}: {name} must be a single value.")
    return str(node.value)


def _models(path: Path, node: Any) -> list[str]:
    found = []
    for item in _items(node):
        if item.id != "scalar" or item.value in found:
            raise UsageError(f"{place(path, item)}: models must be different files.")
        if not Path(item.value).exists():
            raise InputError(f"{place(path, item)}: {item.value} cannot be opened: no such file.")
        found.append(str(item.value))
    return found


def _numbers(path: Path, node: Any, kind: type, name: str, what: str) -> list[Any]:
    found = []
    for item in _items(node):
        try:
            found.append(kind(item.value))
        except (TypeError, ValueError):
            raise UsageError(f"{place(path, item)}: {name} must be {what}.") from None
    if len(set(found)) < len(found):
        raise UsageError(f"{place(path, node)}: {name} has a value twice.")
    return found


def _levels(path: Path, node: Any) -> list[float]:
    if node is None:
        return []
    levels = _numbers(path, node, float, "sparsity", "fractions such as [0.5, 0.8]")
    if not levels or not all(0 <= level < 1 for level in levels):
        raise UsageError(f"{place(path, node)}: sparsity must be fractions from 0 up to, but not including, 1.")
    return levels


def _seeds(path: Path, node: Any) -> tuple[int, ...]:
    if node is None:
        return tuple(range(_SEEDS))
    found = _numbers(path, node, int, "seeds", "how many there are, such as 3, or a list of whole numbers")
    if node.id == "sequence" and found and min(found) >= 0:
        return tuple(found)
    if node.id != "scalar" or found[0] < 1:
        raise UsageError(f"{place(path, node)}: seeds must be how many there are, such as 3, or a list of numbers.")
    return tuple(range(found[0]))


def _methods(path: Path, node: Any) -> list[tuple[str, Any]]:
    if node.id != "mapping":
        raise UsageError(f"{place(path, node)}: methods must be names, each with its passes and retrain below it.")
    names = [str(key.value) for key, _ in node.value]
    for key, _ in node.value:
        if not str(key.value).strip():
            raise UsageError(f"{place(path, key)}: a method has no name.")
    return list(keyed(path, node, names, "sweep").items())


def _cells(path: Path, name: str, node: Any, levels: list[float]) -> Iterator[Cell]:
    """Yield what a method does at each sparsity; once, if it does not say that."""
    parts = keyed(path, node, _METHOD, "method") if node.id == "mapping" else {"passes": node}
    parts = {key: part for key, part in parts.items() if part.value not in ("", [], "~", "null")}
    said = {variable for part in parts.values() for variable in _variables(part)}
    if other := sorted(said - {_NAME}):
        raise UsageError(f"{place(path, node)}: {other[0]} stands for nothing; there is {_NAME}.")
    if said and not levels:
        raise UsageError(f"{place(path, node)}: the method {name} says {_NAME}, and the sweep has no sparsity.")
    for level in levels if said else [None]:
        filled = {key: part if level is None else _filled(part, repr(level)) for key, part in parts.items()}
        passes = PassManager(passes_of(path, filled["passes"]) if "passes" in filled else ()).specs
        retrain = parse_method(retrain_of(path, filled["retrain"]))[1] if "retrain" in filled else None
        if not passes and retrain is None:
            raise UsageError(f"{place(path, node)}: the method {name} does nothing: give passes or retrain.")
        yield Cell("", name, level, tuple(passes), retrain)


def _scalars(node: Any) -> Iterator[Any]:
    """Yield the single values below a node."""
    if node.id == "scalar":
        yield node
        return
    for item in node.value:
        for part in item if isinstance(item, tuple) else (item,):
            yield from _scalars(part)


def _variables(node: Any) -> list[str]:
    return [found for scalar in _scalars(node) for found in re.findall(r"\$\w+", scalar.value)]


def _filled(node: Any, level: str) -> Any:
    """Return a copy of a node with the sparsity in its place."""
    filled = copy.deepcopy(node)
    for scalar in _scalars(filled):
        scalar.value = scalar.value.replace(_NAME, level)
    return filled
