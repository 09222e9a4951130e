"""Specs: `name:key=value,key=value`, the one way in which passes, criteria, tasks and retraining methods are written.

A spec needs no quotes in a shell. A value may be a list: items without `=` continue the value before them, so
`blocks=layer1.0,layer2.1,count=2` is the list of two blocks and a count. The options of a spec are the fields of a
frozen dataclass; there is no second schema.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from sparsify.errors import UsageError

__all__ = ["build", "canonical", "nearest", "parse_spec", "with_option"]

T = TypeVar("T")


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split a spec into its name and its options, all still strings.

    Raises:
        UsageError: it is no text, the name is empty, an option has no key, or a key is given twice.
    """
    if not isinstance(text, str):
        raise UsageError(f"A spec is a text such as 'layer-prune:count=1', not {str(text)[:80]}.")
    name, _, rest = text.strip().partition(":")
    if not name:
        raise UsageError(f"The spec {text!r} has no name. Write NAME or NAME:key=value,key=value.")
    options: dict[str, str] = {}
    key = ""
    for item in filter(None, (part.strip() for part in rest.split(","))):
        head, equals, value = item.partition("=")
        if not equals:
            if not key:
                raise UsageError(f"In the spec {text!r}, {item!r} is not of the form key=value.")
            options[key] += f",{item}"
            continue
        key = head.strip().replace("-", "_")
        if not key:
            raise UsageError(f"In the spec {text!r}, {item!r} has no key. Write key=value.")
        if key in options:
            raise UsageError(f"In the spec {text!r}, the option {key!r} is given twice.")
        options[key] = value.strip()
    return name, options


def with_option(text: str, key: str, value: str) -> str:
    """Return a spec with an option, in the place of another value that it has there.

    Raises:
        UsageError: it is no spec.
    """
    name, options = parse_spec(text)
    return f"{name}:{','.join(f'{known}={chosen}' for known, chosen in {**options, key: value}.items())}"


def build(cls: type[T], options: Mapping[str, str], *, name: str) -> T:
    """Make an instance of the frozen dataclass `cls` from options written as strings.

    Raises:
        UsageError: an option is unknown, and the message lists them, or its value is not of the field's type, and the
            message says which are.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls)) if field.init}
    values: dict[str, Any] = {}
    for key, text in options.items():
        if key not in fields:
            raise UsageError(f"{name} has no option {key!r}{nearest(key, fields)}. {_options(name, cls)}")
        try:
            values[key] = _convert(text, hints[key])
        except ValueError as error:
            raise UsageError(f"{name}: {key}={text!r} {error}.") from None
    missing = [
        key
        for key, field in fields.items()
        if key not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"{name} needs {', '.join(missing)}. {_options(name, cls)}")
    return cls(**values)


def canonical(name: str, instance: object) -> str:
    """Write an instance back as a spec: the options that differ from their defaults, in the order of the fields."""
    parts = []
    for field in dataclasses.fields(typing.cast(Any, instance)):
        value = getattr(instance, field.name)
        if field.init and (field.default is dataclasses.MISSING or value != field.default):
            parts.append(f"{field.name}={_write(value)}")
    return f"{name}:{','.join(parts)}" if parts else name


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` when a known word is close to `word`, else an empty string."""
    close = difflib.get_close_matches(word, dict.fromkeys(known), n=2)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def _convert(text: str, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if text == "none" and type(None) in arguments:
            return None
        return _convert(text, next(a for a in arguments if a is not type(None)))
    if origin is Literal:
        if text not in arguments:
            raise ValueError(f"is not one of {', '.join(map(str, arguments))}{nearest(text, arguments)}")
        return text
    if origin is tuple:
        return tuple(_item(item, arguments[0]) for item in text.split(",") if item)
    if hint is bool:
        if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise ValueError("is not a yes or a no")
        return text.lower() in ("true", "yes", "1")
    if hint is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError("is not a whole number") from None
    if hint is float:
        try:
            return float(text)
        except ValueError:
            raise ValueError("is not a number") from None
    if hint is str:
        return text
    raise TypeError(f"a field of type {hint} cannot be written in a spec")


def _item(text: str, hint: Any) -> Any:
    try:
        return _convert(text, hint)
    except ValueError as error:
        raise ValueError(f"holds {text!r}, which {error}") from None


def _write(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(_write, value))
    return "none" if value is None else str(value)


def _options(name: str, cls: type) -> str:
    fields = [field for field in dataclasses.fields(cls) if field.init]
    if not fields:
        return f"{name} takes no options."
    hints = typing.get_type_hints(cls)
    return f"Options of {name}: " + ", ".join(f"{f.name} ({_type_name(hints[f.name])})" for f in fields) + "."


def _type_name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (types.UnionType, typing.Union):
        return _type_name(next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        return f"{_type_name(arguments[0])},..."
    return str(getattr(hint, "__name__", hint))
