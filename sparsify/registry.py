"""The registry: passes and criteria are found by their files; nothing is registered by hand.

The file `passes/layer_prune.py` holds the class `LayerPrune`, the pass `layer-prune`. What a listing needs (name,
first line, options and defaults) is read from the source text, so that `sparsify passes` never imports torch.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sparsify.errors import UsageError
from sparsify.spec import build, canonical, nearest, parse_spec

__all__ = ["Entry", "Option", "entries", "find", "make"]

_KINDS = {"passes": "pass", "criteria": "criterion", "methods": "retraining method", "tasks": "task"}


@dataclass(frozen=True)
class Option:
    """An option of a pass, criterion or method: a field of its dataclass."""

    name: str
    type: str
    default: str | None
    help: str


@dataclass(frozen=True)
class Entry:
    """A pass, criterion or method as the source text shows it.

    Attributes:
        name: as it is written in a spec, such as `layer-prune`.
        summary: first line of the docstring.
        text: the whole docstring.
        options: the fields of the dataclass.
        module: where it is imported from.
        class_name: its class.
    """

    name: str
    summary: str
    text: str
    options: tuple[Option, ...]
    module: str
    class_name: str


@cache
def entries(package: str) -> Mapping[str, Entry]:
    """List what a package such as `sparsify.passes` holds, by name, without importing its files."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = {}
    for path in sorted(path for folder in folders for path in Path(folder).glob("[!_]*.py")):
        entry = _read(path, f"{package}.{path.stem}")
        found[entry.name] = entry
    return found


def find(package: str, name: str) -> Entry:
    """Return the entry called `name`.

    Raises:
        UsageError: there is none; the nearest names are offered.
    """
    known = entries(package)
    kind = _KINDS.get(package.rpartition(".")[2], "entry")
    if name not in known:
        raise UsageError(f"There is no {kind} {name!r}{nearest(name, known)}. There are: {', '.join(known)}.")
    return known[name]


def make(package: str, spec: str) -> tuple[Any, str]:
    """Make the instance that a spec describes; return it with its canonical spec.

    Raises:
        UsageError: the name is unknown or an option does not fit.
    """
    name, options = parse_spec(spec)
    entry = find(package, name)
    cls = getattr(importlib.import_module(entry.module), entry.class_name)
    instance = build(cls, options, name=f"{name}")
    return instance, canonical(name, instance)


def _read(path: Path, module: str) -> Entry:
    class_name = "".join(part.capitalize() for part in path.stem.split("_"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = _class(tree, class_name)
    if node is None:
        raise UsageError(f"{path} should define the class {class_name}, the one public thing of that file.")
    text = ast.get_docstring(node) or ast.get_docstring(tree) or ""
    options = tuple(_fields(tree, node).values())
    return Entry(path.stem.replace("_", "-"), text.partition("\n")[0], text, options, module, class_name)


def _class(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)


def _fields(tree: ast.Module, node: ast.ClassDef) -> dict[str, Option]:
    """Return the dataclass fields of a class, those of its bases first, as dataclasses order them."""
    found: dict[str, Option] = {}
    imported = {
        name.asname or name.name: (item.module, name.name)
        for item in tree.body
        if isinstance(item, ast.ImportFrom) and item.module
        for name in item.names
    }
    for base in node.bases:
        if not isinstance(base, ast.Name) or base.id not in imported:
            continue
        module, name = imported[base.id]
        spec = importlib.util.find_spec(module) if module.startswith("sparsify") else None
        if spec and spec.origin:
            other = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
            if (parent := _class(other, name)) is not None:
                found.update(_fields(other, parent))
    text = ast.get_docstring(node) or ""
    found.update((option.name, option) for option in (_option(item, text) for item in node.body if _is_field(item)))
    return found


def _is_field(item: ast.stmt) -> bool:
    return isinstance(item, ast.AnnAssign) and not ast.unparse(item.annotation).startswith("ClassVar")


def _option(item: ast.stmt, text: str) -> Option:
    assert isinstance(item, ast.AnnAssign)
    assert isinstance(item.target, ast.Name)
    name = item.target.id
    hint = ast.unparse(item.annotation)
    if hint.startswith("Literal["):
        hint = "|".join(str(value) for value in ast.literal_eval(hint.removeprefix("Literal")))
    default = None if item.value is None else _default(item.value)
    return Option(name, hint.removesuffix(" | None"), default, _described(name, text))


def _described(name: str, text: str) -> str:
    """Return what a docstring's list of options or attributes says of one; a text may go on over indented lines."""
    found = re.search(rf"^(\s+){name}: (.+(?:\n\1\s+.+)*)", text, re.MULTILINE)
    return " ".join(found[2].split()) if found else ""


def _default(value: ast.expr) -> str:
    """Write a default as it is written in a spec."""
    items = value.elts if isinstance(value, ast.Tuple) else [value]
    return ",".join(ast.unparse(item).strip("'\"") for item in items)
