"""A model as a diagram: its graph laid out, with groups, removable blocks and tables that belong to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sparsify.groups import Group
from sparsify.inspection import Inspection
from sparsify.naming import first_names, module_of
from sparsify.program import Program
from sparsify.prunable import Frozen, Prunable, why_frozen
from sparsify.report.groups import short_note, total
from sparsify.report.layout import Layout, layout
from sparsify.report.quantities import count
from sparsify.report.sketch import Item, Sketch, sketch

__all__ = ["Fate", "diagram"]

_GOLDEN = 0.382  # of the circle
_MARGIN = 18.0
_WIDTH, _HEIGHT = 186.0, 38.0  # of a box
_LETTERS = 24  # that fit into one


class _Marks:
    """What ties nodes, lines and rows of tables together: a word for each prunable group and each reason."""

    def __init__(self, found: Prunable) -> None:
        self._groups = {group.name: f"g{index}" for index, group in enumerate(found.free)}
        self._reasons = {item.reason: f"r{index}" for index, item in enumerate(found.frozen)}

    def of(self, groups: Iterable[Group]) -> list[str]:
        """Return the words of groups; frozen ones have that of their reason."""
        words = (self._groups.get(group.name) or self._reasons[why_frozen(group)] for group in groups)
        return list(dict.fromkeys(words))

    def of_reason(self, reason: str) -> list[str]:
        """Return the word of a reason, if parameters are frozen for it."""
        return [self._reasons[reason]] if reason in self._reasons else []

    def hues(self, groups: Iterable[Group]) -> list[int]:
        """Return the colours of groups that can be pruned: spread evenly, neighbours in the list far apart."""
        count = len(self._groups)
        stride = next(step for step in range(round(_GOLDEN * count), 2 * count + 2) if math.gcd(step, count) == 1)
        return [int(self._groups[group.name][1:]) * stride % count * 360 // count for group in groups]


@dataclass(frozen=True)
class Fate:
    """What a run made of the modules of the model that is drawn.

    Attributes:
        rows: by module the id of its row in a table of the page.
        gone: the modules that are left no more.
        changes: by module what became of it, in words.
    """

    rows: Mapping[str, str] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    changes: Mapping[str, str] = field(default_factory=dict)


def diagram(program: Program, found: Inspection, fate: Fate = Fate()) -> dict[str, Any]:
    """Draw a model.

    Args:
        program: that was inspected.
        found: what was found.
        fate: what became of its modules, if it is drawn as it was before a run.

    Returns:
        What the templates need: `nodes`, `lines`, `frames`, `width` and `height` of the drawing; `groups`, `frozen` and
        `total` for tables; `framed`, the ids of frames by block, and `drawn`, the ids of nodes by module.
    """
    marks = _Marks(found.prunable)
    drawing = sketch(program, found.prunable, found.blocks)
    placed = layout(drawing.graph, {name: _size(item) for name, item in drawing.items.items()})
    gone = frozenset(
        block.name for block in found.blocks if block.parameters and _modules(block.parameters) <= fate.gone
    )
    frames = _frames(drawing, placed, gone)
    block = {name: frame["name"] for frame in frames for name in drawing.frames[frame["name"]]}
    lost = frozenset(name for block in gone for name in drawing.frames.get(block, ()))
    nodes = [
        {**_node(item, placed, marks, block.get(name, ""), fate), "gone": _is_gone(item, fate, lost)}
        for name, item in drawing.items.items()
    ]
    places = {word: node["id"] for node in reversed(nodes) for word in node["in"]}
    places.update({word: node["id"] for node in reversed(nodes) for word in node["pick"]})
    items = reversed(drawing.items.values())
    return {
        "nodes": nodes,
        "lines": [_line(item, placed, marks) for item in drawing.items.values() if placed.lines[item.name]],
        "frames": frames,
        "framed": {frame["name"]: frame["id"] for frame in frames},
        "drawn": {module: f"n-{item.name}" for item in items for module in _modules(item.parameters)},
        "width": round(placed.width + 2 * _MARGIN),
        "height": round(placed.height + 2 * _MARGIN),
        "groups": [_group(group, found.prunable, marks, places) for group in found.prunable.free],
        "frozen": [_frozen(item, marks, places) for item in found.prunable.frozen],
        "total": total(found.prunable),
    }


def _modules(parameters: Iterable[str]) -> frozenset[str]:
    return frozenset(map(module_of, parameters))


def _is_gone(item: Item, fate: Fate, lost: frozenset[str]) -> bool:
    """Whether an operator is left no more: its weights are gone, or, if it has none, its block is (`lost`)."""
    modules = _modules(item.parameters)
    return modules <= fate.gone if modules else item.kind == "operator" and item.name in lost


def _node(item: Item, placed: Layout, marks: _Marks, block: str, fate: Fate) -> dict[str, Any]:
    width, height = _size(item)
    x, y = placed.centres[item.name]
    title = item.title.removeprefix(f"{block}.") if block else item.title
    modules = _modules(item.parameters)
    rows = [fate.rows[name] for name in fate.rows if name in modules]
    return {
        "id": f"n-{item.name}",
        "kind": item.kind,
        "known": item.known,
        "row": rows[0] if rows else "",
        "x": round(x - width / 2 + _MARGIN, 1),
        "y": round(y - height / 2 + _MARGIN, 1),
        "width": width,
        "height": height,
        "label": _shortened(title),
        "text": item.text if len(item.text) <= _LETTERS + 4 else f"{item.text[: _LETTERS + 3]}…",
        "tooltip": _tooltip(item, [text for name, text in fate.changes.items() if name in modules]),
        "hues": marks.hues(item.channels),
        "in": list(dict.fromkeys([*marks.of(item.groups), *marks.of_reason(item.frozen)])),
        "pick": marks.of(item.channels) or marks.of_reason(item.frozen),
    }


def _tooltip(item: Item, changes: Iterable[str]) -> str:
    lines = [item.title, *changes, item.text, item.shape]
    lines += [f"reads {first_names(item.parameters, 4)}"] * bool(item.parameters)
    lines += [f"{count(item.macs)} MACs"] * bool(item.macs)
    lines += [f"prunable: {group.name} ({group.size} {group.kind})" for group in item.channels]
    lines += [f"frozen: {item.frozen}"] * bool(item.frozen)
    return "\n".join(filter(None, lines))


def _shortened(title: str) -> str:
    """Shorten a title at its start, behind a dot if there is one, for the end tells modules apart."""
    if len(title) <= _LETTERS:
        return title
    end = title[1 - _LETTERS :]
    return f"…{end[end.find('.') + 1 :] if '.' in end[:-1] else end}"


def _size(item: Item) -> tuple[float, float]:
    """Return width and height: boxes are alike, so that rows of them are tidy; the rest is as wide as its text."""
    if item.kind == "operator":
        return _WIDTH, _HEIGHT
    return max(22.0, 8.0 * len(_shortened(item.title)) + (6.0 if item.kind == "joint" else 24.0)), 22.0


def _line(item: Item, placed: Layout, marks: _Marks) -> dict[str, Any]:
    """Return the lines that leave an item, as one path."""
    parts = []
    for points in placed.lines[item.name]:
        x, start, bottom, to, top, end = (round(value + _MARGIN, 1) for value in points)
        middle = round((bottom + top) / 2, 1)
        bend = f"V{bottom:g}C{x:g} {middle:g} {to:g} {middle:g} {to:g} {top:g}" if x != to else ""
        parts.append(f"M{x:g} {start:g}{bend}V{end:g}")
    words = marks.of(item.channels) or marks.of_reason(item.frozen)
    return {"path": "".join(parts), "hues": marks.hues(item.channels), "words": words}


def _frames(drawn: Sketch, placed: Layout, gone: frozenset[str]) -> list[dict[str, Any]]:
    """Return a frame for each removable block, if nothing else is in it; larger frames come first."""
    found: list[dict[str, Any]] = []
    for name, inside in drawn.frames.items():
        boxes = [(*placed.centres[item], *_size(drawn.items[item])) for item in inside]
        left, right = min(x - w / 2 for x, _, w, _ in boxes), max(x + w / 2 for x, _, w, _ in boxes)
        top, bottom = min(y - h / 2 for _, y, _, h in boxes), max(y + h / 2 for _, y, _, h in boxes)
        others = [placed.centres[item] for item in drawn.items if item not in inside]
        if any(left <= x <= right and top <= y <= bottom for x, y in others):
            continue
        outer = sum(inside > other for other in drawn.frames.values())
        found.append(
            {
                "id": f"b{len(found)}",
                "name": name,
                "x": round(left + _MARGIN - 8 - 4 * outer, 1),
                "y": round(top + _MARGIN - 15 - 4 * outer, 1),
                "width": round(right - left + 16 + 8 * outer, 1),
                "height": round(bottom - top + 20 + 6 * outer, 1),
                "outer": outer,
                "gone": name in gone,
            }
        )
    return sorted(found, key=lambda frame: -frame["outer"])


def _group(group: Group, found: Prunable, marks: _Marks, places: Mapping[str, str]) -> dict[str, Any]:
    (word,) = marks.of([group])
    parameters, macs = found.savings[group.name]
    return {
        "word": word,
        "hue": marks.hues([group])[0],
        "place": places.get(word),
        "group": group,
        "note": short_note(group.note),
        "parameters": parameters,
        "macs": macs,
    }


def _frozen(item: Frozen, marks: _Marks, places: Mapping[str, str]) -> dict[str, Any]:
    (word,) = marks.of_reason(item.reason)
    return {"word": word, "place": places.get(word), "item": item}
