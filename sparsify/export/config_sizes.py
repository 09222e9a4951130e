"""The numbers in a model's configuration that give its parameters the shapes that a smaller program has.

What a number means is not looked up but tried: the model is made on the meta device, without memory, with another
value, and the dimensions that change are those that the number sets. So this knows no model by name.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sparsify.errors import ExportError
from sparsify.naming import first_names

__all__ = ["Make", "Settings", "Shapes", "with_sizes", "without_layers"]

Shapes = Mapping[str, tuple[int, ...]]
Settings = dict[str, Any]
Make = Callable[[Settings], Shapes]
"""Returns the shapes of a model's parameters and buffers for a configuration; raises if it cannot be made."""

Path = tuple[Any, ...]
Dims = dict[tuple[str, int], int]

_MOST = 8  # configurations that are tried

INSTEAD = "Write .pt2 or .onnx, which hold the graph itself."


def with_sizes(settings: Settings, make: Make, wanted: Shapes) -> Iterator[Settings]:
    """Yield configurations with which the model has the shapes that are wanted; the one that explains most first.

    Shapes do not tell all: half as many heads may be heads of half the size. What computes the same, a trial shows.

    Args:
        settings: of the model as it is.
        make: makes the model.
        wanted: for every name of the model.

    Raises:
        ExportError: there is none; the message names the tensors that no number sets.
    """
    count, left = 0, _gaps(make(settings), wanted)
    for start in (settings, _explicit(settings, make, wanted)):
        pending, seen = [start], [start]
        while pending and count < _MOST:
            found = pending.pop()
            if not (gaps := _gaps(make(found), wanted)):
                count += 1
                yield found
                continue
            left = min(left, gaps, key=len)
            fresh = [changed for changed in _nearer(found, gaps, make) if changed not in seen]
            seen += fresh
            pending += fresh
        if count:
            return
    raise ExportError(_refusal(sorted({name for name, _ in left}), wanted))


def _nearer(settings: Settings, gaps: Dims, make: Make) -> list[Settings]:
    """Change each number that explains all that it sets; the one that sets most comes last."""
    steps: list[tuple[int, Settings]] = []
    for path in _numbers(settings):
        effect = _effect(settings, path, make)
        wished = {gaps.get(place, 0) / slope for place, slope in effect.items()}
        if len(wished) == 1 and (step := wished.pop()) == int(step) and step:
            changed = copy.deepcopy(settings)
            _put(changed, path, _at(settings, path) + int(step))
            if _tried(make, changed) is not None:
                steps.append((len(effect), changed))
    return [changed for _, changed in sorted(steps, key=lambda item: item[0])]


def _explicit(settings: Settings, make: Make, wanted: Shapes) -> Settings:
    """Return the same configuration with a number in the place of None where the model's code then computes it.

    Such as the size of a head, or four times the width.
    """
    before = make(settings)
    values = {size for name, _ in _gaps(before, wanted) for size in before[name]}
    heads, width = settings.get("num_attention_heads"), settings.get("hidden_size")
    if isinstance(heads, int) and isinstance(width, int):
        values.add(width // heads)
    found = copy.deepcopy(settings)
    for key in [key for key, value in {"head_dim": None, **settings}.items() if value is None]:
        for value in sorted(values):
            same, other = (_tried(make, {**found, key: factor * value}) for factor in (1, 2))
            if same == before and other not in (None, before):
                found[key] = value
    return found


def without_layers(
    settings: Settings, make: Make, names: set[str], *, count: int, removed: Sequence[int], where: str
) -> Settings:
    """Return a configuration of a model with fewer layers.

    Args:
        settings: of the model as it is.
        make: makes the model.
        names: that the smaller model has.
        count: how many layers there are.
        removed: their places.
        where: the path of the list of layers, for the message.

    Raises:
        ExportError: no number of the configuration says how many layers there are.
    """
    for path in _numbers(settings):
        if _at(settings, path) != count:
            continue
        for lists in (True, False):  # what is said for each layer goes with it
            changed = copy.deepcopy(settings)
            _put(changed, path, count - len(removed))
            if lists:
                _drop(changed, count, removed)
            if (shapes := _tried(make, changed)) is not None and set(shapes) == names:
                return changed
    raise ExportError(
        f"{len(removed)} of the {count} layers in {where} are gone, and no number of the configuration says how many "
        f"there are. {INSTEAD}"
    )


def _refusal(names: Sequence[str], wanted: Shapes) -> str:
    """Say which shapes no configuration gives, and why where layers differ."""
    alike = defaultdict(set)
    for name, shape in wanted.items():
        alike[re.sub(r"\d+", "*", name)].add(shape)
    different = next((name for name in (re.sub(r"\d+", "*", name) for name in names) if len(alike[name]) > 1), None)
    if different is not None:
        shapes = " and ".join(str(list(shape)) for shape in sorted(alike[different])[:3])
        return (
            f"{different} has the shapes {shapes} in different layers, and the configuration has one number for all. "
            f"Prune as much of every layer (channel-prune:scope=uniform, a share that is whole in each). {INSTEAD}"
        )
    return (
        f"No number of the configuration gives {first_names(names)} the shape that it has now "
        f"({list(wanted[names[0]])}): the model's code derives it from other sizes, which have not changed. Prune "
        f"something else, such as units=channels or whole layers. {INSTEAD}"
    )


def _gaps(shapes: Shapes, wanted: Shapes) -> Dims:
    """Return how much larger every dimension is wanted."""
    return {
        (name, dim): new - old
        for name, shape in wanted.items()
        for dim, (old, new) in enumerate(zip(shapes[name], shape, strict=True))
        if old != new
    }


def _effect(settings: Settings, path: Path, make: Make) -> dict[tuple[str, int], float]:
    """Return the dimensions that a number sets, and by how much they grow when it grows by one."""
    value, before = _at(settings, path), make(settings)
    for other in (2 * value, value + 1, value // 2):
        changed = copy.deepcopy(settings)
        _put(changed, path, other)
        after = _tried(make, changed)
        if after is not None:
            alike = set(after) == set(before) and all(len(after[name]) == len(before[name]) for name in before)
            return {place: gap / (other - value) for place, gap in _gaps(before, after).items()} if alike else {}
    return {}


def _tried(make: Make, settings: Settings) -> Shapes | None:
    try:
        return make(settings)
    except Exception:  # noqa: BLE001 -- whatever the model's code raises: these numbers do not go together
        return None


def _numbers(settings: Any, path: Path = ()) -> list[Path]:
    """Return where the whole numbers above one are."""
    return [path for path, value in _leaves(settings, path) if type(value) is int and value > 1]


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, key))
    else:
        yield path, value


def _at(settings: Any, path: Path) -> Any:
    for key in path:
        settings = settings[key]
    return settings


def _put(settings: Any, path: Path, value: int) -> None:
    _at(settings, path[:-1])[path[-1]] = value


def _drop(value: Any, count: int, removed: Sequence[int]) -> None:
    """Take the entries of removed layers out of all lists that have one for each layer."""
    for key, item in list(value.items()):
        if isinstance(item, dict):
            _drop(item, count, removed)
        elif isinstance(item, list) and len(item) == count:
            value[key] = [entry for place, entry in enumerate(item) if place not in removed]
