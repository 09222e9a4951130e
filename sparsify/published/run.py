"""A run of one's own, from the report that `--report` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from sparsify.errors import InputError, unreadable

__all__ = ["Run", "read_run"]


@dataclass(frozen=True)
class Run:
    """What a report says that published results say, too.

    Attributes:
        name: the file.
        sparsity: 1 minus the weights that are not zero after the run over the parameters before it.
        macs_removed: the part of the multiply-accumulates that is gone, or None.
        metric: what the score is, or None where nothing was scored; more is better, as tasks promise.
        score: after the run; an accuracy is in percent.
        dense_score: before the run.
        interval: of the score, with 95% confidence, or None.
        n: how many examples were scored, or None.
        lacking: what the report does not say, in words.
        task: whose data was scored, as `--task` has it, or None.
    """

    name: str
    sparsity: float
    macs_removed: float | None
    metric: str | None
    score: float | None
    dense_score: float | None
    interval: tuple[float, float] | None
    n: int | None
    lacking: tuple[str, ...]
    task: str | None = None

    @property
    def change(self) -> float | None:
        """The score minus that before the run."""
        return None if self.score is None or self.dense_score is None else self.score - self.dense_score


def read_run(path: Path) -> Run:
    """Read a report.

    Raises:
        InputError: the file cannot be read, or is no report of a run.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as a report: {unreadable(error)}.") from error
    parameters, nonzero = _count(report, "before", "parameters"), _count(report, "after", "nonzero")
    before, after = _count(report, "before", "macs"), _count(report, "after", "macs")
    if not parameters or nonzero is None:
        raise InputError(
            f"{path} is no report of a run: it does not say how many parameters there were and how many are left. "
            "`sparsify MODEL --pass ... --report FILE.json` writes one."
        )
    lacking = [] if before and after is not None else ["how many multiply-accumulates there were"]
    macs = 1 - after / before if before and after is not None else None
    scores = report.get("scores")
    scored = _scored(scores)
    if scored is None:
        lacking.append("a score (the run had no --task)" if scores is None else "a score that is a number")
        return Run(str(path), 1 - nonzero / parameters, macs, None, None, None, None, None, tuple(lacking))
    recipe = report.get("recipe")
    task = recipe.get("task") if isinstance(recipe, Mapping) else None
    known = task if isinstance(task, str) else None
    return Run(str(path), 1 - nonzero / parameters, macs, *scored, tuple(lacking), known)


def _count(report: Any, side: str, name: str) -> int | None:
    numbers = report.get(side) if isinstance(report, Mapping) else None
    value = numbers.get(name) if isinstance(numbers, Mapping) else None
    return value if isinstance(value, int) and value >= 0 else None


def _scored(scores: Any) -> tuple[str, float, float, tuple[float, float] | None, int | None] | None:
    """Return metric, score, that before, interval and n, in the units of published results; None without scores."""
    before, after = (scores.get(side) if isinstance(scores, Mapping) else None for side in ("before", "after"))
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return None
    first, last = before.get("value"), after.get("value")
    if not _finite(first) or not _finite(last):
        return None
    name, interval, n = str(after.get("name", "score")), after.get("interval"), after.get("n")
    scale = 100 if name == "accuracy" and 0 <= first <= 1 and 0 <= last <= 1 else 1
    ends = None
    if isinstance(interval, list) and len(interval) == 2 and all(map(_finite, interval)):
        ends = (scale * interval[0], scale * interval[1])
    return name, scale * last, scale * first, ends, n if isinstance(n, int) else None


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
