"""What a run spent its time on, in order, and what was checked on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Step", "proof", "timeline"]

Proof = Literal["proven equal", "checked", "not verified", ""]
_Part = tuple[str, float, float, Proof]


@dataclass(frozen=True)
class Step:
    """A part of a run.

    Attributes:
        name: a pass's spec, or what else it is.
        seconds: how long it took.
        checking: how long checking it took.
        proof: what the check was.
        start: where it begins, as a part of the whole run.
        width: how long it and its check took, as such a part.
    """

    name: str
    seconds: float
    checking: float
    proof: Proof
    start: float
    width: float


def timeline(report: Mapping[str, Any]) -> list[Step]:
    """Return the parts of a run; scoring, writing and measuring are one, at the end."""
    parts: list[_Part] = [("load and capture", report.get("load_seconds") or 0.0, 0.0, "")]
    parts += _passes(report, behind=False)
    record = report.get("retrain")
    if record and "seconds" in record:
        parts.append((f"retrain {record.get('method', '')}".strip(), record["seconds"], 0.0, ""))
    parts += _passes(report, behind=True)
    spent = sum(seconds + checking for _, seconds, checking, _ in parts)
    whole = max(report.get("seconds") or 0.0, spent)
    if whole > spent:
        parts.append(("score, write, measure", whole - spent, 0.0, ""))
    found, start = [], 0.0
    for name, seconds, checking, shown in parts:
        width = (seconds + checking) / (whole or 1.0)
        found.append(Step(name, seconds, checking, shown, start, width))
        start += width
    return found


def _passes(report: Mapping[str, Any], *, behind: bool) -> list[_Part]:
    """Return the passes before a retraining, or those behind it."""
    return [
        (item["pass"], item["seconds"], item.get("verify_seconds") or 0.0, proof(item))
        for item in report["passes"]
        if item.get("behind_retraining", False) == behind
    ]


def proof(item: Mapping[str, Any]) -> Proof:
    """Say what was checked after a pass: that it kept what the model computes, or that the program is whole."""
    if "contract" not in item:
        return "not verified"
    return "proven equal" if item["contract"] == "exact" else "checked"
