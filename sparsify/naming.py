"""Readable, unique names for parts of a program, made from the names of their parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = [
    "common_module",
    "distinct_names",
    "first_are",
    "first_names",
    "layer_keys",
    "module_of",
    "plural",
    "repeated_module",
]


def common_module(parameters: Sequence[str]) -> str:
    """Return the innermost module path that holds all the parameters; empty for the root."""
    paths = [name.split(".")[:-1] for name in parameters]
    common = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def module_of(parameter: str) -> str:
    """Return the module that a parameter belongs to; one of the model itself stands for itself."""
    return parameter.rpartition(".")[0] or parameter


def first_names(names: Sequence[str], limit: int = 3) -> str:
    """Write the first of some names and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def first_are(names: Sequence[str], limit: int = 3) -> str:
    """Write the first of some names as a subject with its verb: `a is`, `a, b are`."""
    return f"{first_names(names, limit)} {'is' if len(names) == 1 else 'are'}"


def plural(count: int, noun: str) -> str:
    """Write how many there are: `1 layer`, `12 layers`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def repeated_module(parameters: Sequence[str]) -> str:
    """Return the innermost numbered module (an element of a list of modules) that holds all the parameters, or ''."""
    path = common_module(parameters).split(".")
    while path and not path[-1].isdigit():
        path.pop()
    return ".".join(path)


def layer_keys(parts: Sequence[Sequence[str]]) -> list[str]:
    """Return for every part (the names of its weights) the repeated module that it is a sublayer of, or ''.

    `h.0.mlp.0` next to `h.0` belongs to `h.0`. A numbered module whose numbered children all differ, while a sibling
    has the same children, is one layer: `block.0.layer.0` and `block.0.layer.1` (T5) belong to `block.0`.
    """
    keys = [repeated_module(part) for part in parts]
    children: dict[str, dict[str, set[str]]] = {}
    for key, part in zip(keys, parts, strict=True):
        if outer := repeated_module([key]):
            names = {name.removeprefix(f"{key}.") for name in part}
            children.setdefault(outer, {}).setdefault(key.removeprefix(outer), set()).update(names)
    for index, key in enumerate(keys):
        outer = repeated_module([key])
        inner = children.get(outer, {})
        alike = [other for other in children if other.rpartition(".")[0] == outer.rpartition(".")[0] != outer]
        differ = len({frozenset(names) for names in inner.values()}) == len(inner) > 1
        if differ and any(children[other] == inner for other in alike if other != outer):
            keys[index] = outer
    outer_keys = set(keys) - {""}
    return [min((k for k in outer_keys if key == k or key.startswith(f"{k}.")), key=len, default="") for key in keys]


def distinct_names(parts: Sequence[Sequence[str]], fallbacks: Sequence[str]) -> list[str]:
    """Name each part by its module; where that says too little, add the children that its weights are in.

    Args:
        parts: for each part the names of its weights.
        fallbacks: for each part the name that it gets when it has no weights.

    Returns:
        Names such as `layer1.0`, `h.3.attn` or `encoder.layer.0.intermediate+output`; all different.
    """
    names = [
        (common_module(part) or _with_children("", part)) if part else fallback
        for part, fallback in zip(parts, fallbacks, strict=True)
    ]
    for index, part in enumerate(parts):
        name = names[index]
        others = [other for other, parameters in zip(names, parts, strict=True) if parameters != part]
        if part and any(other == name or other.startswith(f"{name}.") for other in others):
            names[index] = _with_children(name, part)
    counts = Counter(names)
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        if counts[name] > 1:
            seen[name] += 1
            names[index] = f"{name}#{seen[name]}"
    return names


def _with_children(module: str, parameters: Sequence[str]) -> str:
    """`h.0` with the weights `h.0.fc.weight` and `h.0.proj.weight` becomes `h.0.fc+proj`."""
    start = len(module) + 1 if module else 0
    children = list(dict.fromkeys(name[start:].split(".")[0] for name in parameters))
    prefix = f"{module}." if module else ""
    return prefix + "+".join(children)
