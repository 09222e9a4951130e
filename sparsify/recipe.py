"""Recipes: everything that decides what a run does, as a YAML file or as the options of the command.

passes:
  - layer-prune:count=2,criterion=snip
retrain:
  fine-tune:
    steps: 5ep
    learning_rate: 0.01
task: digits
inputs: 1x1x8x8
seed: 0
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sparsify import registry
from sparsify.errors import InputError, SparsifyError, UsageError, unreadable
from sparsify.spec import nearest, with_option

__all__ = ["Recipe", "keyed", "passes_of", "place", "read_nodes", "read_recipe", "retrain_of"]


@dataclass(frozen=True)
class Recipe:
    """What a run does.

    Attributes:
        passes: specs, in order.
        retrain: spec of the retraining that follows the passes.
        task: data, loss and score.
        inputs: example inputs.
        seed: of everything random.
        places: where the file says task, inputs and retrain, whose errors may show only later.
    """

    passes: tuple[str, ...] = ()
    retrain: str | None = None
    task: str | None = None
    inputs: str | None = None
    seed: int = 0
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def audited(self) -> Recipe:
        """Return the recipe with a retraining that checks itself after every step.

        Raises:
            UsageError: it has no retraining.
        """
        if self.retrain is None:
            raise UsageError("--audit is about a retraining: give --retrain too.")
        return replace(self, retrain=with_option(self.retrain, "audit", "yes"))

    def over(self, other: Recipe) -> Recipe:
        """Return this recipe; what it leaves at its default is taken from `other`."""
        default = Recipe()
        given = {name for name in _KEYS if getattr(self, name) != getattr(default, name)}
        chosen = {name: getattr(self if name in given else other, name) for name in _KEYS}
        return Recipe(**chosen, places={name: place for name, place in other.places.items() if name not in given})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `as_dict` wrote."""
        return cls(**{**values, "passes": tuple(values.get("passes", ()))})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as a recipe file would hold them."""
        values = {name: getattr(self, name) for name in _KEYS}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v not in (None, ())}

    def options(self) -> list[str]:
        """Return the command-line options that mean the same."""
        words = [word for spec in self.passes for word in ("--pass", spec)]
        for name in ("retrain", "task", "inputs"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name}", value]
        return [*words, "--seed", str(self.seed)] if self.seed else words

    @contextmanager
    def blamed(self, name: str, *kinds: type[SparsifyError]) -> Iterator[None]:
        """Name the line of the file in errors that show only when a field, such as `task`, is used.

        Args:
            name: of the field.
            kinds: of errors that are its fault; input and usage errors if not said.
        """
        try:
            yield
        except SparsifyError as error:
            if name not in self.places or not isinstance(error, kinds or (InputError, UsageError)):
                raise
            raise type(error)(f"{self.places[name]}: {error}") from error


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

    Raises:
        InputError: the file is missing or is not YAML.
        UsageError: it holds something that a recipe does not have; the message names the line.
    """
    path = Path(path)
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for name, node in read_nodes(path, _KEYS).items():
        values[name] = passes_of(path, node) if name == "passes" else _single(path, name, node)
        if name in ("task", "inputs", "retrain"):
            places[name] = place(path, node)
    return Recipe(**values, places=places)


def read_nodes(path: Path, keys: Collection[str], kind: str = "recipe") -> dict[str, Any]:
    """Read the keys of a YAML file, each with its node, which knows its line.

    Args:
        path: of the file.
        keys: that it may have.
        kind: what messages call it.

    Raises:
        InputError: the file is missing or is not YAML.
        UsageError: it has no keys, others, or one twice; the message names the line.
    """
    import yaml

    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The {kind} {path} cannot be read: {unreadable(error)}.") from error
    except yaml.YAMLError as error:
        raise InputError(f"The {kind} {path} is not YAML: {unreadable(error)}.") from error
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(
            f"The {kind} {path} must hold keys such as `{next(iter(keys))}:`; it holds "
            f"{_KINDS[getattr(root, 'id', None)]}."
        )
    return keyed(path, root, keys, kind)


def keyed(path: Path, node: Any, keys: Collection[str], kind: str) -> dict[str, Any]:
    """Return the nodes of a mapping by their keys.

    Raises:
        UsageError: there is a key that is none of those that it may have, or one twice; the message names the line.
    """
    found: dict[str, Any] = {}
    for key, value in node.value:
        name = str(key.value)
        if name not in keys:
            raise UsageError(
                f"{place(path, key)}: a {kind} has no {name!r}{nearest(name, keys)}. Keys: {', '.join(keys)}."
            )
        if name in found:
            raise UsageError(f"{place(path, key)}: {name} is given twice.")
        found[name] = value
    return found


_KEYS = tuple(field.name for field in fields(Recipe) if field.name != "places")
_KINDS = {None: "nothing", "sequence": "a list", "scalar": "a single value"}
_NULL = "tag:yaml.org,2002:null"


def place(path: Path, node: Any) -> str:
    """Return where a node is: the file and the line."""
    return f"{path}, line {node.start_mark.line + 1}"


def passes_of(path: Path, node: Any) -> tuple[str, ...]:
    """Return the specs of passes that a node holds.

    Raises:
        UsageError: one is wrong; the message names the line.
    """
    if node.tag == _NULL:
        return ()
    items = node.value if node.id == "sequence" else [node]
    return tuple(_spec(path, item, "sparsify.passes") for item in items)


def retrain_of(path: Path, node: Any) -> str:
    """Return the spec of a retraining that a node holds.

    Raises:
        UsageError: it is wrong; the message names the line.
    """
    return _spec(path, node, "sparsify.methods")


def _single(path: Path, name: str, node: Any) -> Any:
    if node.tag == _NULL:
        return getattr(Recipe, name)
    if name == "retrain":
        return retrain_of(path, node)
    if node.id != "scalar":
        raise UsageError(f"{place(path, node)}: {name} must be a single value.")
    if name != "seed":
        return node.value
    try:
        return int(node.value)
    except ValueError:
        raise UsageError(f"{place(path, node)}: seed must be a whole number, not {node.value!r}.") from None


def _spec(path: Path, node: Any, package: str) -> str:
    """Return the spec that a node holds: as such, or as a name with its options below it."""
    if node.id == "scalar":
        text, options = str(node.value), {}
    else:
        if package == "sparsify.methods" and (node.id == "sequence" or len(node.value) > 1):
            raise UsageError(f"{place(path, node)}: only one method is allowed under retrain.")
        if node.id != "mapping" or len(node.value) != 1 or node.value[0][1].id == "sequence":
            raise UsageError(f"{place(path, node)}: write a spec such as `layer-prune:count=2`, or a name with its "
                             "options below it.")  # fmt: skip
        key, body = node.value[0]
        options = _options(path, body)
        text = f"{key.value}:{','.join(options)}".removesuffix(":")
    error = _error(package, text)
    if error is None:
        return text
    name, culprit = text.partition(":")[0], node
    if _error(package, name) != error:  # then it may be that of a single option
        alone = (place for option, place in options.items() if _error(package, f"{name}:{option}") == error)
        culprit = next(alone, None) or _mentioned(error, options) or node
    raise UsageError(f"{place(path, culprit)}: {error}")


def _mentioned(error: str, options: Mapping[str, Any]) -> Any:
    """Return the place of the option that an error speaks of last: what is wrong with the others comes before."""
    names = {option.partition("=")[0].replace("-", "_"): place for option, place in options.items()}
    found = [(match.start(), name) for name in names for match in re.finditer(rf"\b{re.escape(name)}\b", error)]
    return names[max(found)[1]] if found else None


def _error(package: str, spec: str) -> str | None:
    """Return what is wrong with a spec, or None."""
    try:
        registry.make(package, spec)
    except UsageError as error:
        return str(error)
    return None


def _options(path: Path, body: Any) -> dict[str, Any]:
    """Return the options of a pass or method as they are written in a spec, each with its place."""
    found: dict[str, Any] = {}
    known: set[str] = set()
    for key, node in body.value if body.id == "mapping" else ():
        if (name := str(key.value).replace("-", "_")) in known:
            raise UsageError(f"{place(path, key)}: {name} is given twice.")
        known.add(name)
        items = node.value if node.id == "sequence" else [node]
        if any(item.id != "scalar" for item in items):
            raise UsageError(f"{place(path, node)}: {key.value} must be a value or a list of values.")
        found[f"{key.value}={','.join(str(item.value) for item in items)}"] = key
    return found
