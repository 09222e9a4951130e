"""Results of a sweep: a row for each cell, with the mean over its seeds, and the rows that no other beats."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sparsify.atomic import writing
from sparsify.sweeps.store import read_report
from sparsify.sweeps.trials import Cell, Trial

__all__ = ["DENSE", "Measured", "Row", "measured", "rows", "write_csv"]

DENSE = "(before)"  # the method of a row that says what a model was

_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5% quantile of Student's t with 1, 2, ... degrees of freedom; with more it is that of the last to 2%."""


@dataclass(frozen=True)
class Measured:
    """What became of a trial.

    Attributes:
        trial: that was run.
        report: of it; None if it is not done.
        error: what went wrong, or None.
    """

    trial: Trial
    report: Mapping[str, Any] | None
    error: str | None

    @property
    def state(self) -> str:
        """Return done, failed or open."""
        return "done" if self.report is not None else "open" if self.error is None else "failed"

    @property
    def together(self) -> int:
        """How many seeds were trained at once."""
        retrained = (self.report or {}).get("retrain") or {}
        return int(retrained.get("together", 1))

    def as_dict(self) -> dict[str, Any]:
        """Return what is known, as JSON and a table have it."""
        cell, report = self.trial.cell, self.report
        told: dict[str, Any] = {
            "model": cell.model, "method": cell.method, "sparsity": cell.sparsity, "seed": self.trial.seed,
            "key": self.trial.key, "state": self.state,
        }  # fmt: skip
        if report is not None:
            score, after = report["scores"]["after"], report["after"]
            told |= {
                "score": score["value"], "score_name": score["name"], "n": score["n"],
                "score_before": report["scores"]["before"]["value"], "parameters": after["parameters"],
                "nonzero": after["nonzero"], "macs": after["macs"], "nonzero_share": _share(report, "nonzero"),
                "macs_share": _share(report, "macs"), "seconds": report["seconds"], "together": self.together,
            }  # fmt: skip
        return {**told, "error": self.error, "command": self.trial.command}


@dataclass(frozen=True)
class Row:
    """What the seeds of a cell gave.

    Attributes:
        model: the file.
        method: its name in the recipe, or DENSE.
        sparsity: that stands for `$sparsity`, or None.
        seeds: how many are done.
        failed: how many are not, because something went wrong.
        score: the mean, or None if no seed is done.
        interval: of the mean over seeds, with 95% confidence by Student's t; where all seeds gave the same, that of the
            score's own examples, if it has one; None of fewer than two seeds.
        nonzero_share: of the parameters before, the part that is left and not zero; the mean.
        macs_share: of the multiply-accumulates before, the part that is left; the mean.
        front: of which of the two no other row of the model has less at no lower score.
        trials: keys.
        score_name: of the quantity.
    """

    model: str
    method: str
    sparsity: float | None
    seeds: int
    failed: int
    score: float | None
    interval: tuple[float, float] | None
    nonzero_share: float | None
    macs_share: float | None
    front: tuple[str, ...] = ()
    trials: tuple[str, ...] = field(default=(), repr=False)
    score_name: str = ""

    @property
    def reach(self) -> float | None:
        """How far the interval goes from the score, at its wider side."""
        if self.interval is None or self.score is None:
            return None
        return max(self.score - self.interval[0], self.interval[1] - self.score)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON has them."""
        return asdict(self)


def measured(folder: Path, trials: Sequence[Trial], errors: Mapping[str, str]) -> list[Measured]:
    """Return what became of each trial.

    Raises:
        InputError: a report is damaged.
    """
    found = []
    for trial in trials:
        report = read_report(folder, trial)
        found.append(Measured(trial, report, errors.get(trial.key) if report is None else None))
    return found


def rows(found: Sequence[Measured]) -> list[Row]:
    """Return a row for each cell, those of each model behind a row of what it was."""
    cells: dict[Cell, list[Measured]] = {}
    for one in found:
        cells.setdefault(one.trial.cell, []).append(one)
    made = []
    for model in dict.fromkeys(cell.model for cell in cells):
        own = [_row(cell, members) for cell, members in cells.items() if cell.model == model]
        reports = [one.report for one in found if one.trial.cell.model == model and one.report is not None]
        made += _with_fronts([*([_dense(model, reports[0])] if reports else []), *own])
    return made


def write_csv(path: Path, found: Sequence[Measured]) -> None:
    """Write a line for each trial.

    Raises:
        InputError: the file cannot be written.
    """
    lines = [one.as_dict() for one in found]
    text = io.StringIO()
    table = csv.DictWriter(
        text, fieldnames=list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n"
    )
    table.writeheader()
    table.writerows(lines)
    with writing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _share(report: Mapping[str, Any], quantity: str) -> float:
    before = report["before"]["parameters" if quantity == "nonzero" else quantity]
    return float(report["after"][quantity] / max(1, before))


def _dense(model: str, report: Mapping[str, Any]) -> Row:
    score, before = report["scores"]["before"], report["before"]
    left = before["nonzero"] / max(1, before["parameters"])
    return Row(model, DENSE, None, 1, 0, score["value"], None, left, 1.0, score_name=score["name"])


def _row(cell: Cell, members: Sequence[Measured]) -> Row:
    reports = [one.report for one in members if one.report is not None]
    failed, keys = sum(one.error is not None for one in members), tuple(one.trial.key for one in members)
    if not reports:
        return Row(cell.model, cell.method, cell.sparsity, 0, failed, None, None, None, None, trials=keys)
    scores = [float(report["score"]) for report in reports]
    nonzero, macs = (
        statistics.mean(_share(report, quantity) for report in reports) for quantity in ("nonzero", "macs")
    )
    return Row(
        cell.model, cell.method, cell.sparsity, len(reports), failed, statistics.mean(scores), _interval(reports),
        nonzero, macs, trials=keys, score_name=reports[0]["scores"]["after"]["name"],
    )  # fmt: skip


def _interval(reports: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    scores = [float(report["score"]) for report in reports]
    if len(scores) < 2:
        return None
    if len(set(scores)) == 1:  # seeds say nothing of how sure it is; the examples do
        own = reports[0]["scores"]["after"]["interval"]
        return None if own is None else (float(own[0]), float(own[1]))
    reach = _STUDENT[min(len(scores) - 1, len(_STUDENT)) - 1] * statistics.stdev(scores) / math.sqrt(len(scores))
    mean = statistics.mean(scores)
    return mean - reach, mean + reach


def _with_fronts(own: Sequence[Row]) -> list[Row]:
    fronts = {name: _front(own, name) for name in ("nonzero_share", "macs_share")}
    return [replace(row, front=tuple(name for name, best in fronts.items() if index in best))
            for index, row in enumerate(own)]  # fmt: skip


def _front(own: Sequence[Row], name: str) -> set[int]:
    """Return the rows of which no other has less left at no lower score, nor a higher score at no more."""
    places = {index: (float(getattr(row, name)), -row.score) for index, row in enumerate(own) if row.score is not None}
    return {
        index
        for index, place in places.items()
        if not any(other != place and other[0] <= place[0] and other[1] <= place[1] for other in places.values())
    }
