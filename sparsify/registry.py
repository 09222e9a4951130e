"""The registry: passes and criteria are found by their files; nothing is registered by hand.

The file `passes/layer_prune.py` holds the class `LayerPrune`, the pass `layer-prune`. What a listing needs (name,
first line, options and defaults) is read from the source text, so that `sparsify passes` never imports torch.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sparsify.errors import UsageError
from sparsify.spec import build, canonical, nearest, parse_spec

__all__ = ["Entry", "Option", "data_of", "entries", "find", "make"]

_KINDS = {
    "passes": "pass",
    "criteria": "criterion",
    "statistics": "statistic",
    "mask_updates": "rule of sparse training",
    "methods": "retraining method",
    "strong": "way of scoring weights",
    "tasks": "task",
    "trackers": "tracker",
}
_CONSTANTS = ("scores", "needs", "data", "pace", "refuses")
_DATA = ("nothing", "inputs", "loss", "labels")


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
        scores: what a criterion scores: weights, channels, blocks.
        needs: the statistics that a criterion needs.
        data: what a statistic is measured on: nothing, inputs, loss, labels.
        pace: of a rule of sparse training, how many steps lie between updates.
        refuses: options of its base that a retraining method has no use for; they are not among the options.
    """

    name: str
    summary: str
    text: str
    options: tuple[Option, ...]
    module: str
    class_name: str
    scores: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    data: str = ""
    pace: str = ""
    refuses: tuple[str, ...] = ()


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


def data_of(needs: Iterable[str]) -> str:
    """Return what statistics are measured on, of several the most demanding: nothing, inputs, loss or labels."""
    return max((find("sparsify.statistics", need).data for need in needs), key=_DATA.index, default=_DATA[0])


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
    constants = _constants(tree, node)
    return Entry(
        name=path.stem.replace("_", "-"),
        summary=text.partition("\n")[0],
        text=text,
        options=tuple(o for o in _fields(tree, node).values() if o.name not in constants.get("refuses", ())),
        module=module,
        class_name=class_name,
        **constants,
    )


def _class(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)


def _fields(tree: ast.Module, node: ast.ClassDef) -> dict[str, Option]:
    """Return the dataclass fields of a class, those of its bases first, as dataclasses order them."""
    found: dict[str, Option] = {}
    for other, parent in _bases(tree, node):
        found.update(_fields(other, parent))
    text = ast.get_docstring(node) or ""
    options = [_option(item, text, tree) for item in node.body if _is_field(item) and _is_dataclass(node)]
    found.update((option.name, option) for option in options)
    return found


def _constants(tree: ast.Module, node: ast.ClassDef) -> dict[str, Any]:
    """Return what a class says of itself in class variables, those of its bases first."""
    found: dict[str, Any] = {}
    for other, parent in _bases(tree, node):
        found.update(_constants(other, parent))
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id in _CONSTANTS:
            assert item.value is not None
            found[item.target.id] = ast.literal_eval(item.value)
    return found


def _bases(tree: ast.Module, node: ast.ClassDef) -> Iterator[tuple[ast.Module, ast.ClassDef]]:
    """Yield those bases of a class that are sparsify's, each with the file that it is in."""
    for base in node.bases:
        if isinstance(base, ast.Name):
            for other, name in _origins(tree, base.id):
                if (parent := _class(other, name)) is not None:
                    yield other, parent


def _spelled_out(tree: ast.Module, name: str) -> str:
    """Return what a type that a file defines, or imports from sparsify, stands for."""
    if name.isidentifier() and not hasattr(builtins, name):
        for other, original in _origins(tree, name):
            for item in other.body:
                if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == original and item.value:
                    return ast.unparse(item.value)
    return name


def _origins(tree: ast.Module, name: str) -> Iterator[tuple[ast.Module, str]]:
    """Yield the file of sparsify that a name in a file comes from, with its name there; the file itself otherwise."""
    for item in tree.body:
        if not isinstance(item, ast.ImportFrom):
            continue
        for imported in item.names:
            if (imported.asname or imported.name) == name:
                if (text := _source(item.module or "")) is not None:
                    yield text, imported.name
                return
    yield tree, name


@cache
def _source(module: str) -> ast.Module | None:
    """Return the text of a module of sparsify, which is not imported."""
    package, *path = module.split(".")
    if package != "sparsify":
        return None
    file = Path(__file__).parent.joinpath(*path)
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else None


def _is_dataclass(node: ast.ClassDef) -> bool:
    """Whether annotations in a class body are fields; dataclasses pass over those of a base that is none itself."""
    return any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list)


def _is_field(item: ast.stmt) -> bool:
    return isinstance(item, ast.AnnAssign) and not ast.unparse(item.annotation).startswith("ClassVar")


def _option(item: ast.stmt, text: str, tree: ast.Module) -> Option:
    assert isinstance(item, ast.AnnAssign)
    assert isinstance(item.target, ast.Name)
    name = item.target.id
    hint = ast.unparse(item.annotation).removesuffix(" | None")
    hint = _spelled_out(tree, hint)
    if hint.startswith("Literal["):
        hint = "|".join(str(value) for value in ast.literal_eval(hint.removeprefix("Literal")))
    default = None if item.value is None else _default(item.value)
    return Option(name, hint, default, _described(name, text))


def _described(name: str, text: str) -> str:
    """Return what a docstring's list of options or attributes says of one; a text may go on over indented lines."""
    found = re.search(rf"^(\s+){name}: (.+(?:\n\1\s+.+)*)", text, re.MULTILINE)
    return " ".join(found[2].split()) if found else ""


def _default(value: ast.expr) -> str:
    """Write a default as it is written in a spec."""
    items = value.elts if isinstance(value, ast.Tuple) else [value]
    return ",".join(ast.unparse(item).strip("'\"") for item in items)
