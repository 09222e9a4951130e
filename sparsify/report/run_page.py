"""The page that `--report out.html` writes: whether a run was worth it, and what it did to every layer, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sparsify.atomic import writing
from sparsify.inspection import inspection
from sparsify.program import Program
from sparsify.report.curve import curve
from sparsify.report.diagram import Fate, diagram
from sparsify.report.heat_maps import heat_maps
from sparsify.report.rendering import render
from sparsify.report.runtimes import uses
from sparsify.report.timeline import timeline
from sparsify.report.verdict import cards, headline

__all__ = ["write_run_page"]

_KINDS = {"dense": "before", "pruned": "after the passes", "round": "rounds", "control": "controls", "result": "result"}


def write_run_page(path: str | Path, report: Mapping[str, Any], before: Program, after: Program) -> None:
    """Write the page of a run.

    Args:
        path: of the file.
        report: as `report.json` holds it, with `layers`; the page holds it, too.
        before: the model at the start, which is drawn.
        after: the result, whose masks are shown.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [_row(index, row) for index, row in enumerate(report["layers"]["rows"])]
    found = inspection(before)
    drawn = diagram(before, found, _fate(rows))
    for row in rows:
        row["place"] = drawn["drawn"].get(row["module"])
    maps, left_out = heat_maps(after)
    with writing(path) as temporary:
        temporary.write_text(
            render(
                "run.html",
                **drawn,
                report=report,
                name=Path(report["model"]).name,
                found=found,
                rows=rows,
                totals=_totals(report),
                headline=headline(report),
                cards=cards(report),
                curve=curve(report),
                kinds=_KINDS,
                maps=maps,
                left_out=left_out,
                timeline=timeline(report),
                uses=uses(report),
                data=_embedded(report),
            ),
            encoding="utf-8",
        )


def _row(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    before, after = row["before"], row["after"]
    return {
        "id": f"row-{index}",
        "module": row["module"],
        "before": before,
        "after": after,
        "state": "new" if before is None else "gone" if after is None else "",
        "shape": _arrow(_shape(before), _shape(after)),
        "sparsity": 0.0 if after is None else 1 - after["nonzero"] / max(1, after["parameters"]),
        "pattern": row["pattern"],
        "milliseconds": row["milliseconds"],
        "sensitivity": row["sensitivity"],
    }


def _shape(side: Mapping[str, Any] | None) -> str:
    return "" if side is None else "x".join(map(str, side["shape"])) or "scalar"


def _arrow(one: str, two: str) -> str:
    return one or two if not one or not two or one == two else f"{one} → {two}"


def _fate(rows: list[dict[str, Any]]) -> Fate:
    changed = {row["module"]: f"now {_shape(row['after'])}" for row in rows if "→" in row["shape"]}
    gone = {row["module"]: "removed" for row in rows if row["state"] == "gone"}
    return Fate({row["module"]: row["id"] for row in rows}, frozenset(gone), {**changed, **gone})


def _totals(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the last row: the whole model, with what belongs to no module."""
    table = report["layers"]
    times = [
        sum(row["milliseconds"][side] or 0.0 for row in table["rows"]) + table["rest_milliseconds"][side]
        for side in (0, 1)
    ]
    held = [row["after"] for row in table["rows"] if row["after"] is not None]
    parameters, nonzero = (sum(side[key] for side in held) for key in ("parameters", "nonzero"))
    return {
        "before": report["before"],
        "after": {**report["after"], "parameters": parameters},  # a sparse layer stores fewer than its row says
        "sparsity": 1 - nonzero / max(1, parameters),
        "milliseconds": times,
        "rest_macs": table["rest_macs"],
        "rest_milliseconds": table["rest_milliseconds"],
    }


def _embedded(report: Mapping[str, Any]) -> Markup:
    """Return the report as JSON that cannot end the element it stands in."""
    return Markup(json.dumps(report).replace("<", "\\u003c"))
