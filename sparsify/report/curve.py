"""The trade-off of a run as a drawing in numbers: points, their intervals, axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sparsify.report.tradeoff import Point, points, quantity

__all__ = ["HEIGHT", "NAMES", "WIDTH", "curve", "drawing", "ticks"]

WIDTH, HEIGHT = 640.0, 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 24.0, 16.0, 44.0
NAMES = {"macs": "multiply-accumulates that are left", "nonzero": "non-zero parameters that are left"}


def curve(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return points, lines and ticks in the drawing's own units; None where fewer than two networks were scored."""
    found = points(report)
    if len(found) < 2:
        return None
    joined = [point for point in found if point.kind in ("dense", "round")]
    return drawing(found, joined, NAMES[quantity(report)], report["scores"]["before"]["name"])


def drawing(found: Sequence[Point], joined: Sequence[Point], x_label: str, y_label: str) -> dict[str, Any]:
    """Return points, lines and ticks in the drawing's own units.

    Args:
        found: what is drawn.
        joined: the points that a line goes through.
        x_label: what is left.
        y_label: the score.
    """
    ends = [end for point in found for end in (point.interval or (point.score, point.score))]
    low, high = _widened(min(ends), max(ends))
    right = max(1.0, *(point.left for point in found))

    def x(value: float) -> float:
        return round(_LEFT + value / right * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    drawn = [_drawn(point, x(point.left), point.interval and [y(end) for end in point.interval], y(point.score))
             for point in found]  # fmt: skip
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "points": [_at_its_place(drawn, index) for index in range(len(drawn))],
        "path": _path([(x(point.left), y(point.score)) for point in joined]),
        "x_ticks": [(x(value), f"{value:.0%}") for value in ticks(0, right)],
        "y_ticks": [(y(value), f"{value:.10g}") for value in ticks(low, high)],
        "floor": HEIGHT - _BOTTOM,
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "x_label": x_label,
        "y_label": y_label,
        "kinds": list(dict.fromkeys(point.kind for point in found)),
    }  # fmt: skip


def _drawn(point: Point, x: float, ends: Sequence[float] | None, y: float) -> dict[str, Any]:
    interval = f" ({point.interval[0]:.4f} to {point.interval[1]:.4f})" if point.interval else ""
    text = f"{point.label}: {point.score:.4f}{interval} at {point.left:.1%}"
    return {"kind": point.kind, "label": point.label, "x": x, "y": y, "ends": ends, "text": text, "point": point}


def _at_its_place(drawn: Sequence[dict[str, Any]], index: int) -> dict[str, Any]:
    """Return a point with the texts of all at its place, and how many of them are drawn on it: it shows around."""
    place = (drawn[index]["x"], drawn[index]["y"])
    same = [other for other, one in enumerate(drawn) if (one["x"], one["y"]) == place]
    text = "\n".join(drawn[other]["text"] for other in same)
    return {**drawn[index], "text": text, "behind": sum(other > index for other in same)}


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places) if len(places) > 1 else ""


def _widened(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.05 * (abs(high) or 1.0)
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """Return four to nine round numbers between two others."""
    span = high - low
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (5, 2, 1) if span / (step * factor) >= 4)
    return [
        round(step * index, 12) for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
