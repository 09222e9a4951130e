"""The points of a run's trade-off: the dense model, what was pruned, rounds and controls, by size and score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Point", "points", "quantity"]

Kind = Literal["dense", "pruned", "round", "control", "result", "method"]


@dataclass(frozen=True)
class Point:
    """A network that was scored.

    Attributes:
        kind: what it is in the run.
        label: what a legend calls it.
        left: the part of the dense model's MACs or non-zero parameters that it has.
        score: its score.
        interval: of the score, with 95% confidence, or None.
        hue: in degrees, of a method of a sweep.
        front: whether no other network has less left at no lower score.
    """

    kind: Kind
    label: str
    left: float
    score: float
    interval: tuple[float, float] | None = None
    hue: int | None = None
    front: bool = False


def quantity(report: Mapping[str, Any]) -> Literal["macs", "nonzero"]:
    """Return what a run took away: multiply-accumulates if it removed any, else non-zero parameters."""
    return "macs" if report["after"]["macs"] < report["before"]["macs"] else "nonzero"


def points(report: Mapping[str, Any]) -> list[Point]:
    """Return every network of a run that was scored, the dense one first; none if there was no task."""
    scores = report.get("scores")
    if not scores:
        return []
    key = quantity(report)
    left = report["after"][key] / report["before"][key]
    found = [_point("dense", "before", 1.0, scores["before"])]
    if "pruned" in scores:
        passed = report["pruned"][key] / report["before"][key]
        found.append(_point("pruned", "after the passes", passed, scores["pruned"]))
    record = report.get("retrain") or {}
    share = f"{key}_share"
    found += _networks(record.get("rounds", ()), share, "round")
    found += _networks(record.get("controls", ()), share, "control")
    return [*found, _point("result", "result", left, scores["after"])]


def _point(kind: Kind, label: str, left: float, score: Mapping[str, Any]) -> Point:
    interval = score["interval"]
    return Point(kind, label, left, score["value"], None if interval is None else (interval[0], interval[1]))


def _networks(items: Sequence[Mapping[str, Any]], share: str, kind: Kind) -> list[Point]:
    return [
        Point(kind, f"control {item['control']}" if kind == "control" else f"round {item['round']}",
              item[share], item["score"])
        for item in items
        if share in item
    ]  # fmt: skip
